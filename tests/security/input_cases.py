"""The security cases of what is sent: malformed input, sizes and resources, plans and rates."""

from tests.security.case import (
    ABSENT_REDIS,
    ADMIN,
    ADMIN_ORGANIZATIONS,
    API_KEYS,
    BAD_FIELDS,
    BAD_JSON,
    BAD_TARGETS,
    BATCHES,
    BODY_SIZES,
    CLAIMS,
    CLIENTS,
    CONNECTIONS,
    CREATION,
    HEADERS,
    HEADS,
    INGEST,
    INGEST_SECURITY,
    INJECTION,
    INPUT,
    LIMITS,
    ORGANIZATIONS,
    OUTGOING,
    OWN_ORGANIZATION,
    PLAN_LIMITS,
    PRODUCTION,
    QUEUES,
    QUOTAS,
    READING,
    REQUEST_LIMITS,
    ROUTING,
    SCHEDULES,
    SHARED_LIMITS,
    USAGE,
    WORKFLOW_CLIENT,
    case,
)

MALFORMED_CASES = [
    case(
        "E1",
        "SQL in names, statuses, orders, slugs, events, ids, filters",
        INJECTION(
            "test_sql_in_any_text_is_refused_or_kept_as_text",
            "test_sql_in_what_is_stored_comes_back_as_it_was",
        ),
        BAD_TARGETS("test_an_id_that_is_no_id_is_an_unknown_one", "test_no_query_value_is_a_500"),
        OUTGOING("test_a_foreign_webhook_is_a_missing_one"),
        SCHEDULES("test_what_names_no_time_zone_is_400"),
    ),
    case(
        "E2",
        "markup in names",
        INPUT("test_markup_is_no_name_of_anything_that_has_rules"),
        INJECTION("test_markup_in_a_name_is_400", "test_markup_in_a_payload_is_never_served_as_markup"),
        ORGANIZATIONS("test_an_organization_comes_with_a_key_that_works"),
    ),
    case(
        "E3",
        "paths that lead upwards, encoded slashes",
        BAD_TARGETS("test_an_id_that_is_no_id_is_an_unknown_one", "test_a_queue_name_that_is_no_name_is_400"),
        INJECTION("test_a_name_outside_the_alphabet_is_400"),
        INPUT("test_an_organization_is_not_found_by_what_only_looks_like_its_id"),
        SCHEDULES("test_what_names_no_time_zone_is_400"),
    ),
    case(
        "E4",
        "names that are hidden, begin with a hyphen, hold a space or a semicolon",
        INJECTION("test_a_name_outside_the_alphabet_is_400", "test_two_dots_in_a_queue_name_are_legal"),
        INGEST_SECURITY("test_h17_queues_that_a_webhook_may_not_name"),
    ),
    case(
        "E5",
        "NUL in any text",
        BAD_FIELDS("test_nul_in_any_string_is_400", "test_nul_anywhere_in_opaque_json_is_400"),
        BAD_TARGETS("test_nul_in_a_query_value_is_400", "test_an_id_that_is_no_id_is_an_unknown_one"),
        HEADS("test_no_request_head_is_a_500"),
    ),
    case(
        "E6",
        "control characters in what people read",
        INJECTION("test_control_characters_are_taken_out_of_what_people_read"),
        CLAIMS("test_control_characters_are_removed_from_a_stored_worker_id"),
        OUTGOING("test_what_a_receiver_says_is_cleaned_and_cut"),
    ),
    case(
        "E7",
        "letters of any script, and those that look like others",
        INPUT("test_an_organization_is_not_found_by_what_only_looks_like_its_id"),
        ORGANIZATIONS("test_a_broken_rule_is_400"),
        ADMIN_ORGANIZATIONS("TestKeys::test_a_key_reaches_every_queue_unless_told_otherwise"),
    ),
    case(
        "E8",
        "normal forms, right to left, emoji",
        CREATION("TestPayloads::test_any_json_comes_back_equal"),
        INPUT("test_a_name_is_kept_in_the_normal_form_that_it_came_in"),
    ),
    case(
        "E9",
        "line breaks in what becomes a header",
        INPUT(
            "test_a_line_break_never_becomes_a_header_of_a_webhook",
            "test_a_line_break_in_an_event_of_a_sender_is_no_header_of_ours",
        ),
        INJECTION(
            "test_a_line_break_in_a_header_bound_value_is_400", "test_a_line_break_makes_no_second_header"
        ),
        HEADERS("TestRequestIds::test_any_other_is_replaced"),
    ),
    case(
        "E10",
        "versions that are none",
        HEADERS(
            "TestApiVersion::test_one_and_anything_malformed_mean_version_one",
            "TestApiVersion::test_a_version_that_is_not_ascii_means_version_one",
        ),
        HEADS("test_no_request_head_is_a_500"),
    ),
    case(
        "E11",
        "deep JSON",
        BAD_JSON("test_what_is_not_json_is_400_everywhere", "test_depth_is_counted_up_to_128"),
    ),
    case(
        "E12",
        "numbers that are none, half characters, bytes that are no UTF-8",
        BAD_JSON("test_what_is_not_json_is_400_everywhere", "test_a_number_beyond_a_double_is_400"),
    ),
    case(
        "E13",
        "wrong types",
        BAD_FIELDS("test_a_wrong_type_in_any_field_is_422", "test_a_wrong_item_in_a_list_is_422"),
    ),
    case(
        "E14",
        "fields that would gain a privilege",
        INPUT("test_an_organization_is_created_without_the_privileges_that_its_creator_names"),
        ORGANIZATIONS("test_fields_that_would_gain_a_privilege_are_ignored"),
        OWN_ORGANIZATION("test_fields_that_would_gain_a_privilege_are_ignored"),
    ),
    case("E15", "a key that is given twice", BAD_JSON("test_of_duplicate_keys_the_last_counts")),
    case(
        "E16",
        "limits and offsets out of range",
        READING(
            "TestPages::test_a_page_is_fifty_rows_and_limits_are_clamped_to_a_hundred",
            "TestPages::test_a_number_of_any_size_is_clamped",
        ),
        ADMIN("TestList::test_numbers_are_clamped_and_anything_else_refused"),
    ),
    case(
        "E17",
        "names and slugs that are empty, too long, too short, reserved",
        ORGANIZATIONS("test_a_broken_rule_is_400"),
        OWN_ORGANIZATION("test_a_broken_rule_is_named", "TestSlugs::test_an_invalid_slug_is_told_so"),
        API_KEYS("test_a_broken_rule_is_400_at_creation_and_at_change"),
    ),
    case("E18", "addresses of e-mail that are none", ORGANIZATIONS("test_a_broken_rule_is_400")),
    case(
        "E19",
        "an end in the past, now, in the year 9999, without a zone",
        INPUT("test_a_key_ends_in_the_future_and_a_time_without_a_zone_is_utc"),
        API_KEYS(
            "test_a_broken_rule_is_400_at_creation_and_at_change",
            "test_a_key_is_made_shown_once_changed_and_revoked",
        ),
    ),
]

SIZE_CASES = [
    case(
        "F1",
        "bodies over the limit, announced or not",
        BODY_SIZES(
            "test_a_body_announced_as_too_large_is_413_before_it_is_sent",
            "test_a_chunked_body_is_413_as_soon_as_it_is_too_large",
        ),
    ),
    case(
        "F2",
        "a length that is not that of the body",
        INJECTION(
            "test_more_body_than_announced_is_no_part_of_it",
            "test_less_body_than_announced_does_not_take_the_next_request_in",
        ),
        BODY_SIZES("test_a_body_that_does_not_arrive_is_given_up"),
        HEADS("test_no_request_head_is_a_500"),
    ),
    case("F3", "a payload over that of the plan", INJECTION("test_a_payload_above_the_plan_is_413")),
    case(
        "F4",
        "settings, tags, metadata over 64 KiB",
        INJECTION("test_opaque_json_above_64_kib_is_400"),
        OWN_ORGANIZATION("test_a_broken_rule_is_named"),
    ),
    case(
        "F5",
        "too many queues of a key, jobs at once, characters of a reason",
        API_KEYS("test_a_broken_rule_is_400_at_creation_and_at_change"),
        BATCHES("test_a_broken_rule_of_the_request_is_400_and_nothing_is_written"),
        QUEUES("TestPause::test_a_reason_of_500_characters_is_the_longest"),
        WORKFLOW_CLIENT("test_what_can_be_no_workflow_is_refused"),
    ),
    case(
        "F6",
        "times that never come",
        SCHEDULES(
            "test_what_is_no_expression_is_400",
            "test_an_expression_that_matches_seldom_or_never_is_judged_all_the_same",
        ),
    ),
    case(
        "F7",
        "a body or a head that arrives slowly",
        BODY_SIZES("test_a_body_that_does_not_arrive_is_given_up"),
        CONNECTIONS("test_a_head_that_does_not_arrive_closes_its_connection"),
    ),
    case("F8", "a compressed body", ROUTING("test_a_compressed_body_is_415")),
    case(
        "F9",
        "more than sixty scrapes a minute",
        PRODUCTION("TestMetrics::test_the_metrics_port_answers_sixty_scrapes_a_window"),
    ),
    case(
        "F10",
        "Redis is away",
        ABSENT_REDIS(
            "test_each_key_is_admitted_ten_times_a_minute",
            "test_a_revoked_key_is_refused_at_once_all_the_same",
            "test_health_says_that_the_cache_is_away_and_all_else_is_well",
        ),
        SHARED_LIMITS("test_without_redis_a_few_requests_a_minute_are_admitted_until_it_is_back"),
    ),
    case("F11", "very long values", INJECTION("test_a_very_long_value_is_refused_in_linear_time")),
]

PLAN_CASES = [
    case(
        "G1",
        "one more than the plan has, of everything",
        PLAN_LIMITS(
            "test_ten_jobs_may_be_active",
            "test_a_thousand_jobs_may_be_created_in_a_day",
            "test_two_queues_may_have_a_row",
            "test_one_worker_may_be_registered",
        ),
        API_KEYS("test_the_free_plan_has_two_keys"),
        OUTGOING("test_the_free_plan_has_one_enabled_webhook"),
        USAGE("test_a_quota_names_the_next_tier_if_there_is_one"),
        SCHEDULES("test_the_free_plan_has_one_active_schedule"),
    ),
    case(
        "G2",
        "as much as the plan has",
        PLAN_LIMITS("test_ten_jobs_may_be_active", "test_two_queues_may_have_a_row"),
        INJECTION("test_a_payload_above_the_plan_is_413"),
    ),
    case("G3", "a workflow on the free plan", WORKFLOW_CLIENT("test_the_free_plan_is_without_workflows")),
    case("G4", "a bulk of more than fit", LIMITS("test_a_bulk_of_five_with_room_for_four_inserts_nothing")),
    case(
        "G5",
        "twenty at once with room for one",
        LIMITS("test_of_twenty_creates_at_once_with_room_for_one_exactly_one_succeeds"),
        USAGE("test_a_capped_top_plan_takes_as_many_as_fit_of_many_at_once"),
    ),
    case(
        "G6",
        "a repeat at the cap",
        PLAN_LIMITS("test_a_known_key_is_answered_before_any_quota"),
        INGEST("test_a_full_plan_takes_no_webhook"),
    ),
    case(
        "G7",
        "midnight",
        LIMITS("test_what_was_created_yesterday_does_not_count_today"),
        QUOTAS("test_the_daily_limit_counts_what_was_created_and_begins_anew_at_midnight"),
    ),
    case(
        "G8",
        "usage that the administrator resets",
        ADMIN_ORGANIZATIONS("test_a_reset_gives_the_day_back_and_keeps_the_total"),
    ),
    case("G9", "the top plan", PLAN_LIMITS("test_the_top_plan_has_no_cap_on_what_is_active")),
    case(
        "G10",
        "more requests than the plan has",
        REQUEST_LIMITS(
            "test_an_organization_has_the_burst_of_its_plan",
            "test_another_organization_at_the_same_address_is_not_affected",
        ),
    ),
    case(
        "G11",
        "a forwarded address that was made up",
        REQUEST_LIMITS("TestAddresses::test_invented_keys_and_agents_are_one_address"),
        CLIENTS(
            "test_a_forwarded_address_of_anybody_else_is_ignored",
            "test_a_trusted_proxy_tells_for_whom_it_asks",
        ),
    ),
    case(
        "G12",
        "agents and keys that were made up",
        REQUEST_LIMITS("TestAddresses::test_invented_keys_and_agents_are_one_address"),
    ),
]
