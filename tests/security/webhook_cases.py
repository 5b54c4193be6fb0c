"""The security cases of webhooks, and of what a server gives away."""

from tests.security.case import (
    ADMIN,
    CHAOS,
    CLAIMS,
    COMPARISONS,
    CONTROL,
    DEAD_LETTERS,
    HEALTH,
    INGEST,
    INGEST_SECURITY,
    INPUT,
    OUTBOUND,
    OUTGOING,
    OWN_ORGANIZATION,
    PRODUCTION,
    PROVIDERS,
    READING,
    REDACTION,
    SETTINGS,
    SETTLEMENT,
    STARTS,
    SUBSCRIPTIONS,
    TOKENS,
    WEBHOOKS,
    WRITTEN_LOG,
    case,
)

_INSIDE = (
    *OUTGOING("test_every_address_inside_is_refused_with_the_same_words"),
    *WEBHOOKS("test_every_address_inside_is_refused_in_production"),
)

WEBHOOK_CASES = [
    case("H1", "addresses inside", _INSIDE),
    case("H2", "plain http, other schemes", _INSIDE),
    case(
        "H3",
        "public addresses beside private ones",
        OUTGOING("test_public_addresses_are_accepted"),
        WEBHOOKS("test_public_addresses_beside_private_ones_are_accepted_in_production"),
    ),
    case("H4", "other spellings of addresses inside", _INSIDE),
    case(
        "H5",
        "a public name that points inside, or does so by the time of the call",
        OUTBOUND(
            "test_a_public_name_that_points_inside_is_not_called",
            "test_the_checked_address_is_called_under_the_name",
            "test_in_production_this_machine_is_not_called",
        ),
    ),
    case(
        "H6",
        "a redirect",
        WEBHOOKS("test_no_redirect_is_followed"),
        OUTBOUND("test_any_other_status_is_a_failure_and_no_redirect_is_followed"),
    ),
    case(
        "H7",
        "an address that is switched to one inside",
        OUTGOING("test_an_address_cannot_be_switched_to_one_inside"),
        WEBHOOKS("test_an_address_that_should_never_have_been_stored_is_not_contacted"),
    ),
    case(
        "H8",
        "answers that are huge, never end or hold control characters",
        OUTGOING("test_what_a_receiver_says_is_cleaned_and_cut"),
        OUTBOUND(
            "test_an_endless_answer_is_read_to_a_limit",
            "test_a_receiver_that_never_answers_is_left_after_a_while",
            "test_control_characters_of_an_answer_are_not_kept",
        ),
    ),
    case(
        "H9",
        "the words about a failure",
        OUTGOING("test_a_failure_says_nothing_of_where_it_was"),
        OUTBOUND("test_what_nobody_answers_says_nothing_of_where_it_was"),
    ),
    case(
        "H10",
        "twenty failures in a row",
        WEBHOOKS("test_the_twentieth_failure_in_a_row_switches_a_webhook_off_and_a_success_forgets_them"),
        SUBSCRIPTIONS(
            "test_nineteen_failures_and_a_success_leave_no_trace",
            "test_twenty_failures_switch_a_webhook_off_until_it_is_enabled_again",
        ),
    ),
    case("H11", "GitHub: signatures of other forms", INGEST_SECURITY("test_h11_github_needs_its_signature")),
    case(
        "H12",
        "GitHub: another body, another secret",
        INGEST_SECURITY(
            "test_h12_a_body_that_was_changed_by_one_byte_is_refused",
            "test_h12_a_signature_with_another_secret_is_refused",
        ),
    ),
    case(
        "H13",
        "no secret is configured",
        PROVIDERS("test_h13_without_a_configured_secret_nothing_is_accepted"),
    ),
    case(
        "H14",
        "Stripe: times and signatures that do not count",
        INGEST_SECURITY(
            "test_h14_stripe_is_neither_old_nor_from_the_future",
            "test_h14_a_stripe_signature_of_another_form_is_refused",
            "test_h14_the_time_cannot_be_moved_without_the_secret",
        ),
    ),
    case("H15", "Stripe: a replay", INGEST_SECURITY("test_h15_a_replay_of_stripe_makes_no_second_job")),
    case(
        "H16",
        "custom: tokens that are missing, wrong, foreign, empty, not there",
        INGEST_SECURITY(
            "test_h16_custom_needs_the_token_of_its_organization",
            "test_h16_without_a_token_nothing_is_accepted",
        ),
    ),
    case(
        "H17",
        "custom: names of queues that nobody may give",
        INGEST_SECURITY("test_h17_queues_that_a_webhook_may_not_name"),
        INGEST("test_a_field_beyond_its_rule_is_400"),
    ),
    case("H18", "SQL in an event of GitHub", INGEST_SECURITY("test_h18_an_event_of_github_is_made_a_name")),
    case(
        "H19",
        "an unknown organization",
        INGEST_SECURITY(
            "test_h19_an_unknown_organization_is_404", "test_every_unknown_organization_is_answered_alike"
        ),
    ),
    case("H20", "plain http in production", PROVIDERS("test_h20_in_production_plain_http_is_refused")),
    case("H21", "a rotated token", INGEST_SECURITY("test_h21_a_rotated_token_stops_working_at_once")),
    case("H22", "clearing the token", OWN_ORGANIZATION("TestWebhookToken::test_it_cannot_be_cleared")),
    case(
        "H23",
        "secrets in answers and in the log",
        OUTGOING("test_the_secret_is_nowhere_to_be_read"),
        PROVIDERS("test_h23_no_secret_is_in_an_answer_or_in_the_log"),
    ),
]

DISCLOSURE_CASES = [
    case(
        "I1",
        "the database is away",
        STARTS("test_without_its_database_a_server_says_no_more_than_that"),
        CHAOS("test_requests_are_refused_politely_until_the_killed_database_is_back"),
    ),
    case(
        "I2",
        "an unknown id and a foreign one",
        INPUT("test_what_is_foreign_and_what_is_unknown_are_one_answer_to_the_byte"),
        CONTROL("TestRetry::test_unknown_and_foreign_jobs_are_409_with_one_body"),
    ),
    case("I3", "health without a credential", HEALTH("test_a_healthy_server_says_so")),
    case(
        "I4",
        "comparisons with secrets",
        COMPARISONS("test_every_guess_is_compared_once_and_whole", "test_each_secret_has_its_comparison"),
        PRODUCTION("TestMetrics::test_both_ports_want_the_token"),
        ADMIN("TestAccess::test_what_is_not_the_key_is_refused_and_too_much_of_it_has_to_wait"),
    ),
    case(
        "I5",
        "settings that are not safe",
        STARTS("test_a_setting_that_is_not_safe_stops_the_start_and_its_value_is_not_shown"),
        SETTINGS(
            "test_strict_environments_refuse_weak_secrets",
            "test_a_value_that_cannot_be_used_stops_the_start_and_is_not_shown",
            "test_settings_that_do_not_fit_each_other_stop_the_start",
        ),
    ),
    case("I6", "TRACE and CONNECT", PRODUCTION("test_dangerous_methods_are_405")),
    case("I7", "an origin that is not listed", PRODUCTION("TestOrigins::test_any_other_may_not")),
    case(
        "I8",
        "secrets in the log",
        WRITTEN_LOG("test_the_log_of_a_server_that_was_called_in_bad_faith_shows_no_secret"),
        TOKENS("test_no_secret_is_in_the_log"),
        PROVIDERS("test_h23_no_secret_is_in_an_answer_or_in_the_log"),
        REDACTION("test_a_secret_in_a_text_is_replaced_and_the_rest_stays", "test_no_field_shows_a_secret"),
    ),
    case(
        "I9",
        "deleting an organization with something active",
        OWN_ORGANIZATION("test_an_organization_with_anything_active_is_not_deleted"),
    ),
    case(
        "I10",
        "leases, priorities and numbers out of range",
        CLAIMS("test_out_of_range_is_400_and_takes_nothing"),
        SETTLEMENT("TestHeartbeat::test_out_of_range_is_400_and_the_lease_stays"),
        CONTROL("TestPriority::test_out_of_range_is_400"),
        DEAD_LETTERS("TestRetry::test_out_of_range_is_400", "TestPurge::test_out_of_range_is_400"),
        READING("TestPages::test_a_page_is_fifty_rows_and_limits_are_clamped_to_a_hundred"),
    ),
]
