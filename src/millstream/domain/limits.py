"""Every limit of the server in one place; units are in the names."""

from typing import Final

# Requests
BODY_BYTES_MAX: Final = 5 * 1024 * 1024
JSON_DEPTH_MAX: Final = 128
JSON_NUMBER_CHARS_MAX: Final = 400
# What is told of a body that is wrong in many places, and of what stands in one of them.
PROBLEMS_MAX: Final = 100
PROBLEM_CHARS_MAX: Final = 200
PATH_BYTES_MAX: Final = 2048
REQUEST_ID_CHARS_MAX: Final = 128
QUERY_STRING_BYTES_MAX: Final = 16 * 1024

# Connections
# Nobody connects to say nothing; one that has asked before may be idle for longer.
SILENT_CONNECTION_SECONDS_MAX: Final = 10.0
# How long a client may leave its answers unread, and what of them it must have read by then to be given as long again.
UNREAD_ANSWER_SECONDS_MAX: Final = 30.0
UNREAD_ANSWER_BYTES_MIN: Final = 16 * 1024

# Names and free text
QUEUE_NAME_CHARS_MAX: Final = 100
WORKER_ID_CHARS_MAX: Final = 255
REGISTERED_WORKER_ID_CHARS_MAX: Final = 128
HOSTNAME_CHARS_MAX: Final = 255
WORKER_TYPE_CHARS_MAX: Final = 50
WORKER_VERSION_CHARS_MAX: Final = 50
IDEMPOTENCY_KEY_CHARS_MAX: Final = 255
ERROR_CHARS_MAX: Final = 2048
PAUSE_REASON_CHARS_MAX: Final = 500
WEBHOOK_SECRET_CHARS_MAX: Final = 255
WEBHOOK_URL_CHARS_MAX: Final = 2048
TAG_CHARS_MAX: Final = 1024
SEARCH_CHARS_MAX: Final = 255

# Credentials
# Keys have 51 characters. A token names up to 50 queues of up to 255 characters, in base64.
API_KEY_CHARS_MIN: Final = 10
API_KEY_CHARS_MAX: Final = 256
TOKEN_CHARS_MAX: Final = 20_000
API_KEY_NAME_CHARS_MAX: Final = 100
API_KEY_QUEUES_MAX: Final = 50
API_KEY_QUEUE_CHARS_MAX: Final = 255
API_KEY_RATE_LIMIT_MAX: Final = 10_000
EMAIL_CHARS_MAX: Final = 254
SIGN_IN_CODE_TRIES_MAX: Final = 5
# Rows of a loop's statement, and remembered credentials of a process.
PRUNED_TOKENS_MAX: Final = 5_000
REMEMBERED_CREDENTIALS_MAX: Final = 10_000
REFUSED_CREDENTIALS_MAX: Final = 4_096
WAITING_LOOK_UPS_MAX: Final = 10_000
THROTTLED_CALLERS_MAX: Final = 4_096

# Incoming webhooks
STORED_QUEUE_NAME_CHARS_MAX: Final = 255
EVENT_TYPE_CHARS_MAX: Final = 100
EVENT_CHARS_IN_QUEUE_MAX: Final = 64
SIGNATURE_HEADER_BYTES_MAX: Final = 4096
# The newest accepted ones that a tenant's log keeps, and after how many more a process trims it.
INGEST_DELIVERIES_MAX: Final = 10_000
INGEST_DELIVERIES_BETWEEN_TRIMS: Final = 500

# Opaque JSON, serialized
PAYLOAD_BYTES_MAX: Final = 1024 * 1024
RESULT_BYTES_MAX: Final = 1024 * 1024
TAGS_BYTES_MAX: Final = 64 * 1024
SETTINGS_BYTES_MAX: Final = 64 * 1024
METADATA_BYTES_MAX: Final = 64 * 1024

# Jobs
PRIORITY_MIN: Final = -100
PRIORITY_MAX: Final = 100
MAX_RETRIES_MAX: Final = 100
TIMEOUT_SECONDS_MAX: Final = 86_400
LEASE_SECONDS_MIN: Final = 5
LEASE_SECONDS_MAX: Final = 3_600
RETRY_IN_SECONDS_MAX: Final = 86_400
RETRY_FACTOR_MAX: Final = 100.0
RATE_LIMIT_MAX: Final = 100_000
CLAIM_JOBS_MAX: Final = 100
CLAIM_WAIT_SECONDS_MAX: Final = 25
BULK_JOBS_MAX: Final = 100
SETTLE_ITEMS_MAX: Final = 1_000
STATUS_IDS_MAX: Final = 100
DEAD_RETRY_JOBS_MAX: Final = 100
DEAD_PURGE_JOBS_MAX: Final = 10_000

# Schedules
SCHEDULE_NAME_CHARS_MAX: Final = 255
SCHEDULE_DESCRIPTION_CHARS_MAX: Final = 1_000
CRON_CHARS_MIN: Final = 9
CRON_CHARS_MAX: Final = 100
TIME_ZONE_CHARS_MAX: Final = 64
# Of one tenant, those that are paused included.
SCHEDULES_MAX: Final = 100_000
SCHEDULE_PAGE_ROWS_MAX: Final = 500
# Templates are large: a page of more is refused.
SCHEDULE_PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
SCHEDULE_RUNS_MAX: Final = 500
SCHEDULE_RUNS_FORGOTTEN_MAX: Final = 10_000
RUN_ERROR_CHARS_MAX: Final = 4_096
# Due ones that one transaction fires.
FIRED_SCHEDULES_MAX: Final = 250

# Workflows
WORKFLOW_JOBS_MAX: Final = 10_000
WORKFLOW_EDGES_MAX: Final = 100_000
WORKFLOW_NAME_CHARS_MAX: Final = 255
WORKFLOW_DESCRIPTION_CHARS_MAX: Final = 1_000
WORKFLOW_KEY_CHARS_MAX: Final = 100
DEPENDENCIES_ADDED_MAX: Final = 100
# The number that a job still waits for is stored in two bytes.
DEPENDENCIES_MAX: Final = 10_000
# Workflows that one transaction looks at, and changes that it looks through for them.
WORKFLOWS_FOLLOWED_MAX: Final = 100
WORKFLOW_CHANGES_MAX: Final = 2_000

# Workers
WORKER_CONCURRENCY_MAX: Final = 100
WORKER_CURRENT_JOBS_MAX: Final = 2**31 - 1

# Pages
PAGE_ROWS_MAX: Final = 100
PAGE_OFFSET_MAX: Final = 2**31 - 1
HISTORY_ROWS_MAX: Final = 500
UNPAGED_ROWS_MAX: Final = 100

# Group commit
# Larger statements gain nothing per row, and while one runs the next is made ready.
BATCH_ROWS_MAX: Final = 200
BATCH_CREATES_MAX: Final = 500
BATCH_CLAIMS_MAX: Final = 32
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_QUEUE_ROWS_MAX: Final = 50_000
BATCH_QUEUE_BYTES_MAX: Final = 256 * 1024 * 1024
CLAIM_WAITERS_MAX: Final = 10_000

# Loops
PROMOTED_ROWS_MAX: Final = 1_000
REAPED_ROWS_MAX: Final = 500
PRUNED_ROWS_MAX: Final = 2_000
INLINE_ROWS_MAX: Final = 1_000

# Steps of a deletion: few enough that the statements of one end long before their timeout
DELETED_ROWS_MAX: Final = 2_000
PURGED_ROWS_MAX: Final = 500
# Outgoing webhooks
WEBHOOKS_MAX: Final = 1_000
WEBHOOK_NAME_CHARS_MAX: Final = 255
WEBHOOK_EVENTS_MAX: Final = 100
WEBHOOK_ATTEMPTS_MAX: Final = 10
# A result above this is left out of what webhooks are told; the job's own completion webhook gets all of it.
WEBHOOK_RESULT_BYTES_MAX: Final = 64 * 1024
WEBHOOK_RESPONSE_BYTES_MAX: Final = 64 * 1024
WEBHOOK_RESPONSE_CHARS_MAX: Final = 500
DELIVERIES_READABLE_MAX: Final = 100
DELIVERIES_FORGOTTEN_MAX: Final = 10_000
# What one process sends at once: in all, to one host, to one webhook, to a host that did not answer, on request.
DELIVERIES_IN_FLIGHT_MAX: Final = 256
DELIVERIES_PER_HOST_MAX: Final = 64
DELIVERIES_PER_RECEIVER_MAX: Final = 32
DELIVERIES_PER_TROUBLED_HOST_MAX: Final = 2
DELIVERIES_ON_REQUEST_MAX: Final = 32
TROUBLED_HOSTS_MAX: Final = 10_000
RECEIVERS_PER_CLAIM_MAX: Final = 500
# Tenants with webhooks that a process remembers; with more, every batch looks for itself.
INTERESTED_TENANTS_MAX: Final = 10_000

# Topics. Contract: goqueue-messaging 15.
TOPIC_NAME_CHARS_MAX: Final = 249
GROUP_NAME_CHARS_MAX: Final = 255
CLIENT_ID_CHARS_MAX: Final = 255
PUBLISH_BODY_BYTES_MAX: Final = 32 * 1024 * 1024
TOPIC_BODY_BYTES_MAX: Final = 1024 * 1024
PUBLISHED_MESSAGES_MAX: Final = 10_000
VALUE_BYTES_MAX: Final = 16 * 1024 * 1024
KEY_BYTES_MAX: Final = 65_535
HEADERS_BYTES_MAX: Final = 65_535
PARTITIONS_MAX: Final = 1_000
DELAY_SECONDS_MAX: Final = 671_088.64
DELAYED_PER_TOPIC_MAX: Final = 1_000_000
DELAYED_PER_PARTITION_MAX: Final = 100_000
READ_MESSAGES_MAX: Final = 1_000
READ_BYTES_MAX: Final = 32 * 1024 * 1024
POLL_WAIT_SECONDS_MAX: Final = 28.0
SESSION_SECONDS_MAX: Final = 3_600
GROUP_MEMBERS_MAX: Final = 1_000
MEMBER_TOPICS_MAX: Final = 1_000
# Each is a row of the group; a rebalance looks at all of them.
GROUP_PARTITIONS_MAX: Final = 20_000
GROUPS_LISTED_MAX: Final = 100_000
GROUPS_TENDED_MAX: Final = 500
VISIBILITY_SECONDS_MAX: Final = 12 * 3_600
MEMBER_IN_FLIGHT_MAX: Final = 1_000
UNSETTLED_GAPS_MAX: Final = 100_000
RECEIPTS_MAX: Final = 1_000
# Requests of one statement, and deliveries that a loop ends in one, of up to a thousand messages each.
BATCH_POLLS_MAX: Final = 16
BATCH_ACKS_MAX: Final = 500
EXPIRED_DELIVERIES_MAX: Final = 100
# How many delayed messages of a partition a poll passes, so that its group is owed them.
PASSED_DELAYED_MAX: Final = 1_000
# Requests of one statement. A row of the log takes no further messages once it has so many, or so many bytes.
BATCH_PUBLISHES_MAX: Final = 500
BATCH_RECORDS: Final = 1_000
BATCH_RECORD_BYTES: Final = 256 * 1024
# A hundred years.
RETENTION_HOURS_MAX: Final = 876_000
# Rows of the log, each up to some hundred kilobytes, that a step of a loop removes; partitions that one looks at.
PRUNED_BATCHES_MAX: Final = 1_000
PRUNED_PARTITIONS_MAX: Final = 500
# What compaction reads at once, and the keys that it compares: a hundred bytes of memory each.
COMPACTED_BATCHES_MAX: Final = 64
COMPACTED_BYTES_MAX: Final = 8 * 1024 * 1024
COMPACTED_KEYS_MAX: Final = 2_000_000
REMEMBERED_TOPICS_MAX: Final = 10_000
PUBLISH_KEY_SECONDS: Final = 86_400
REMEMBERED_MEMBERS_MAX: Final = 100_000

# In-process event hub
SUBSCRIBER_EVENTS_MAX: Final = 1_000
SUBSCRIBERS_MAX: Final = 10_000

# Tenants
REMOVED_ROWS_MAX: Final = 2_000
ACTIVE_JOBS_COUNTED_MAX: Final = 10_000
TENANT_NAME_CHARS_MIN: Final = 3
TENANT_NAME_CHARS_MAX: Final = 100
SLUG_CHARS_MIN: Final = 3
SLUG_CHARS_MAX: Final = 50
DESCRIPTION_CHARS_MAX: Final = 2_000
BILLING_REFERENCE_CHARS_MAX: Final = 255
TENANT_SEARCH_CHARS_MAX: Final = 100
CUSTOM_LIMIT_MAX: Final = 2**31 - 1
RETURN_URL_CHARS_MAX: Final = 2_048

# Relay between processes
# Queues or tenants that one process tells the others of before it drops hints.
RELAY_HINTS_MAX: Final = 10_000
RELAY_EVENTS_MAX: Final = 10_000
EVENT_LOG_ROWS_MAX: Final = 1_000

# Request rates
# Clients remembered, each with a bucket of some hundred bytes; the one that was silent longest is forgotten first.
RATE_CLIENTS_MAX: Final = 50_000
RATE_WAIT_SECONDS_MAX: Final = 3_600
# What one process admits while the shared counters are away. Contract: spooled-tenancy 8.3.
RATE_FALLBACK_SECONDS: Final = 60
RATE_FALLBACK_REQUESTS: Final = 10
RATE_FALLBACK_UNIDENTIFIED_REQUESTS: Final = 5
FORWARDED_ADDRESS_CHARS_MAX: Final = 45
