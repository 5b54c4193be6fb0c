"""The security cases of who may do what: authentication, administration, other organizations, scope."""

from tests.security.case import (
    ADMIN,
    ADMIN_ORGANIZATIONS,
    API_KEYS,
    AUTHENTICATION,
    CATALOGUE,
    COMPARISONS,
    CONTROL,
    CREATION,
    CREDENTIALS,
    DEAD_LETTERS,
    DEPENDENCIES,
    INGEST,
    INGEST_SECURITY,
    INPUT,
    ISOLATION,
    OUTGOING,
    OWN_ORGANIZATION,
    QUEUE_SCOPE,
    READING,
    RELAY,
    SCHEDULES,
    SETTLEMENT,
    TENANT_ISOLATION,
    TOKEN_RULES,
    TOKENS,
    USAGE,
    WORKERS,
    WORKFLOWS,
    case,
)

AUTHENTICATION_CASES = [
    case(
        "A1",
        "no credential, an empty one, Basic, bearer in lower case, Bearer without a value",
        AUTHENTICATION("test_only_the_exact_bearer_form_is_a_credential"),
        ISOLATION("test_a_route_gives_nothing_without_a_credential"),
    ),
    case(
        "A2",
        "a random key, one character changed, the right beginning, white space at the end",
        AUTHENTICATION(
            "test_a_credential_that_does_not_verify_is_401",
            "test_a_key_that_differs_in_its_last_character_is_401",
        ),
        CREDENTIALS(
            "test_a_key_that_is_nearly_right_is_refused_like_a_random_one",
            "test_a_key_with_white_space_behind_it_is_refused",
        ),
    ),
    case(
        "A3",
        "many keys that share their first characters",
        API_KEYS("test_more_keys_than_share_a_prefix_each_act_for_themselves"),
    ),
    case(
        "A4",
        "a key over 72 bytes, a key of a megabyte",
        CREDENTIALS("test_a_long_key_is_401", "test_a_key_of_a_megabyte_is_refused"),
    ),
    case(
        "A5",
        "a revoked key at once, in every process, whatever was remembered of it",
        API_KEYS(
            "test_a_key_is_made_shown_once_changed_and_revoked",
            "test_a_key_may_revoke_itself",
        ),
        RELAY("test_a_revoked_key_is_refused_by_every_process_once_the_revocation_is_answered"),
    ),
    case("A6", "an expired key, on use and on login", CREDENTIALS("test_an_expired_key_opens_nothing")),
    case(
        "A7",
        "a token without an algorithm or without its signature",
        CREDENTIALS("test_a_token_that_was_not_signed_here_opens_nothing"),
        TOKEN_RULES("test_what_we_did_not_sign_is_refused"),
    ),
    case(
        "A8",
        "a token of another secret or algorithm, or with edited claims",
        CREDENTIALS("test_a_token_that_was_not_signed_here_opens_nothing"),
        TOKEN_RULES("test_what_we_did_not_sign_is_refused"),
    ),
    case(
        "A9",
        "a token without an end, past its end, with an end that is text",
        CREDENTIALS("test_a_signed_token_that_does_not_say_what_it_must_opens_nothing"),
        TOKEN_RULES("test_an_end_counts_with_a_minute_of_leeway"),
    ),
    case(
        "A10",
        "a refresh token as bearer, an access token for a refresh",
        CREDENTIALS("test_a_refresh_token_is_no_credential"),
        TOKENS("test_me_and_logout_take_no_api_key_and_no_refresh_token"),
    ),
    case("A11", "an access token after logout", TOKENS("test_logout_ends_the_access_token")),
    case(
        "A12",
        "a refresh after logout, whose body named the refresh token or did not",
        TOKENS("test_logout_ends_the_access_token", "test_logout_ends_the_refresh_token_that_is_named"),
    ),
    case(
        "A13",
        "tokens after their key was revoked, deleted or has expired",
        TOKENS("test_revoking_the_key_ends_its_tokens"),
        CREDENTIALS("test_tokens_end_with_a_key_that_expires"),
    ),
    case(
        "A14",
        "a signed token that names a key of another organization",
        CREDENTIALS("test_a_signed_token_with_the_key_of_another_organization_opens_neither"),
    ),
    case(
        "A15",
        "validation of rubbish, a megabyte, SQL",
        TOKENS("test_what_is_no_token_is_told_so_and_nothing_more"),
        CREDENTIALS("test_a_token_that_was_not_signed_here_opens_nothing"),
    ),
    case(
        "A16",
        "the sixth failed login of a minute",
        TOKENS("test_the_sixth_wrong_log_in_of_a_minute_is_429"),
        TOKEN_RULES("test_too_many_failures_of_one_key_hold_up_that_key_only"),
    ),
    case(
        "A17",
        "a credential in the query",
        AUTHENTICATION("test_other_places_for_a_key_are_not_looked_at"),
        TOKENS("test_a_token_is_taken_from_nowhere_but_the_bearer"),
    ),
    case(
        "A18",
        "a bad bearer beside a good X-API-Key",
        TOKENS("test_a_token_is_taken_from_nowhere_but_the_bearer"),
    ),
]

ADMINISTRATION_CASES = [
    case(
        "B1",
        "no admin key, a wrong one, a part of it, more than it, in other case",
        ADMIN(
            "TestAccess::test_no_endpoint_answers_without_the_key",
            "TestAccess::test_what_is_not_the_key_is_refused_and_too_much_of_it_has_to_wait",
        ),
    ),
    case(
        "B2",
        "a server without an admin key, an empty header",
        CREDENTIALS("test_without_an_admin_key_nobody_administers"),
    ),
    case(
        "B3",
        "an API key or a token on admin routes",
        CREDENTIALS("test_the_credentials_of_an_organization_administer_nothing"),
        ADMIN("TestAccess::test_no_endpoint_answers_without_the_key"),
        ISOLATION("test_a_route_gives_nothing_of_another_organization"),
    ),
    case(
        "B4",
        "control characters and other bytes in the admin key",
        CREDENTIALS("test_an_admin_key_of_other_bytes_is_refused"),
    ),
    case(
        "B5",
        "the time of the comparison tells nothing",
        COMPARISONS("test_every_guess_is_compared_once_and_whole"),
    ),
    case(
        "B6",
        "wildcards, SQL and much text in a search, SQL in an order",
        ADMIN(
            "TestList::test_a_search_is_cleaned_and_never_a_pattern",
            "TestList::test_filters_sorting_and_pages",
        ),
    ),
    case(
        "B7",
        "a plan that there is not",
        ADMIN("TestList::test_filters_sorting_and_pages"),
        ADMIN_ORGANIZATIONS(
            "TestCreate::test_a_broken_rule_is_named", "TestUpdate::test_a_broken_rule_is_named"
        ),
    ),
    case(
        "B8",
        "limits that are negative, huge, text, null, unknown",
        ADMIN_ORGANIZATIONS(
            "TestUpdate::test_limits_that_are_none_are_refused_and_nothing_changes",
            "TestUpdate::test_limits_are_replaced_kept_and_reset",
        ),
        CREDENTIALS("test_limits_that_nobody_knows_are_left_out"),
    ),
    case("B9", "an unknown organization", ADMIN_ORGANIZATIONS("test_an_unknown_organization_is_404")),
]

_WALK = ISOLATION("test_a_route_gives_nothing_of_another_organization")

ISOLATION_CASES = [
    case(
        "C1",
        "the organization, its members, usage and webhook token",
        _WALK,
        OWN_ORGANIZATION("test_another_organization_looks_like_one_that_does_not_exist"),
        API_KEYS("test_members_are_the_active_keys_of_the_own_organization"),
        USAGE("test_the_own_id_is_another_way_and_any_other_is_unknown"),
    ),
    case("C2", "API keys", _WALK, API_KEYS("test_a_foreign_key_is_a_missing_one")),
    case("C3", "outgoing webhooks", _WALK, OUTGOING("test_a_foreign_webhook_is_a_missing_one")),
    case(
        "C4",
        "a foreign delivery below an own webhook",
        _WALK,
        OUTGOING("test_a_foreign_webhook_is_a_missing_one"),
    ),
    case(
        "C5",
        "jobs: reading, cancelling, retrying, priority, history, batch status",
        _WALK,
        TENANT_ISOLATION(
            "test_a_foreign_job_is_a_missing_one", "test_lists_counts_and_searches_show_own_rows_only"
        ),
        CONTROL("TestRetry::test_unknown_and_foreign_jobs_are_409_with_one_body"),
        READING("TestBatchStatus::test_rows_follow_the_request_each_once_and_unknown_ids_are_skipped"),
        DEPENDENCIES("test_what_cannot_be_is_refused"),
    ),
    case(
        "C6",
        "dead letters: lists, retries, purges",
        _WALK,
        TENANT_ISOLATION("test_lists_counts_and_searches_show_own_rows_only"),
        DEAD_LETTERS(
            "TestRetry::test_ids_that_are_not_dead_letters_are_left_alone",
            "TestPurge::test_without_a_queue_the_whole_organization_is_purged_and_nobody_else",
        ),
    ),
    case("C7", "queues of one name", _WALK, TENANT_ISOLATION("test_queues_of_one_name_are_apart")),
    case(
        "C8",
        "workers, and one that is registered under a foreign id",
        _WALK,
        TENANT_ISOLATION("test_a_foreign_worker_is_a_missing_one"),
        WORKERS("TestRegister::test_an_id_of_another_organization_is_a_conflict"),
    ),
    case(
        "C9",
        "schedules",
        _WALK,
        SCHEDULES(
            "test_a_foreign_schedule_is_a_missing_one", "test_schedules_outside_the_scope_are_missing_ones"
        ),
    ),
    case(
        "C10",
        "workflows",
        _WALK,
        WORKFLOWS("test_a_workflow_is_its_tenants_and_within_the_queues_of_a_key"),
    ),
    case(
        "C11",
        "completion, failure, heartbeat of a foreign job",
        _WALK,
        SETTLEMENT("TestFence::test_a_job_of_another_organization_is_404"),
        TENANT_ISOLATION("test_a_foreign_job_is_a_missing_one"),
        later="gRPC",
    ),
    case(
        "C12",
        "statistics, usage and streams that name a foreign job or queue",
        TENANT_ISOLATION("test_lists_counts_and_searches_show_own_rows_only"),
        USAGE("test_the_own_id_is_another_way_and_any_other_is_unknown"),
        later="streams of events",
    ),
    case(
        "C13",
        "another organization named in header, query and body",
        _WALK,
        TENANT_ISOLATION("test_naming_another_organization_changes_nothing"),
    ),
    # Pages are told by limit and offset: there is nothing to carry over.
    case("C14", "a foreign cursor", INPUT("test_there_is_no_cursor_to_carry_to_another_organization")),
    case(
        "C15",
        "the log of incoming webhooks, billing",
        INGEST_SECURITY("test_c15_a_log_shows_own_entries_only"),
        OWN_ORGANIZATION("TestBilling::test_what_the_administrator_noted_is_shown_to_its_organization_alone"),
    ),
    case(
        "C16",
        "one idempotency key in two organizations",
        CREATION("TestIdempotencyKeys::test_two_organizations_may_use_one_key"),
        INGEST_SECURITY("test_c16_keys_of_two_organizations_are_apart"),
    ),
    case(
        "C17",
        "a foreign parent",
        _WALK,
        CREATION("TestParents::test_a_parent_of_another_organization_is_an_unknown_one"),
        DEPENDENCIES("test_what_cannot_be_is_refused"),
    ),
    case(
        "C18",
        "SQL in the context of one organization",
        CATALOGUE(
            "test_a_tenant_sees_its_own_rows_and_nothing_else",
            "test_without_its_own_setting_a_tenant_changes_no_row_of_any_table",
            "test_a_tenant_inserts_no_row_of_another_into_any_table",
        ),
        OUTGOING("test_deliveries_of_one_tenant_are_hidden_from_another_by_the_database"),
    ),
]

SCOPE_CASES = [
    case(
        "D1",
        "a key of some queues at another one",
        QUEUE_SCOPE("test_naming_another_queue_is_403", "test_objects_of_other_queues_are_missing"),
    ),
    case(
        "D2",
        "a key without queues, a key of the star",
        QUEUE_SCOPE("test_no_names_or_a_star_are_all_queues"),
        API_KEYS("test_a_plain_key_reaches_every_queue_and_has_no_end"),
    ),
    case("D3", "a pattern", QUEUE_SCOPE("test_a_pattern_is_a_name_and_matches_nothing_else")),
    case("D4", "the log of incoming webhooks", INGEST("test_the_log_is_for_unrestricted_keys")),
    case(
        "D5",
        "a key of some queues that administers, or widens itself",
        INPUT("test_a_restricted_key_does_not_widen_itself"),
        API_KEYS("test_a_restricted_key_administers_no_keys"),
        OUTGOING("test_a_key_of_some_queues_may_not_touch_webhooks"),
        OWN_ORGANIZATION("test_a_restricted_key_reads_its_organization_and_administers_nothing"),
    ),
    case("D6", "a token of a key that was narrowed since", TOKENS("test_revoking_the_key_ends_its_tokens")),
]
