"""The one table of settings: where each comes from, what it may be, and what it is for.

A new setting is a field in `schema.py` and a row here; loading, checks, suggestions and the documentation follow.
"""

from typing import Final

from millstream.config.kinds import (
    ATTRIBUTES,
    EMAIL,
    ENVIRONMENT,
    HOST,
    LOG_FILTER,
    NETWORKS,
    ORIGINS,
    PATH,
    PORT,
    PORT_OR_FREE,
    REFERENCE_ENVIRONMENT,
    REFERENCE_LOG_FILTER,
    SECRET,
    SECRET_OR_EMPTY,
    SWITCH,
    TEXT,
    choice,
    seconds,
    secret_url,
    url,
    whole_number,
)
from millstream.config.schema import Config, RegistrationMode
from millstream.config.setting import Alias, Setting
from millstream.config.topics import TOPIC_SETTINGS
from millstream.domain import limits


def _aliases(*names: str) -> tuple[Alias, ...]:
    return tuple(Alias(name) for name in names)


_POSTGRES = ("postgresql", "postgres")
_DAY_SECONDS = 86_400

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        path="server.environment",
        name="MILLSTREAM_ENV",
        aliases=(Alias("RUST_ENV", REFERENCE_ENVIRONMENT),),
        kind=ENVIRONMENT,
        help="How strict the server is about secrets, origins and limits.",
    ),
    Setting(
        path="server.host",
        name="MILLSTREAM_HOST",
        aliases=_aliases("HOST"),
        kind=HOST,
        strict_default="0.0.0.0",
        help="Address to listen on.",
    ),
    Setting(
        path="server.port",
        name="MILLSTREAM_PORT",
        aliases=_aliases("PORT"),
        kind=PORT,
        flag_kind=PORT_OR_FREE,
        help="HTTP port; --port 0 takes a free one.",
    ),
    Setting(
        path="server.grpc_port",
        name="MILLSTREAM_GRPC_PORT",
        aliases=_aliases("GRPC_PORT"),
        kind=PORT,
        flag_kind=PORT_OR_FREE,
        help="gRPC port; --grpc-port 0 takes a free one.",
        reserved=True,
    ),
    Setting(
        path="server.metrics_port",
        name="MILLSTREAM_METRICS_PORT",
        aliases=_aliases("METRICS_PORT"),
        kind=PORT,
        flag_kind=PORT_OR_FREE,
        help="Port of the metrics listener; --metrics-port 0 takes a free one.",
    ),
    Setting(
        path="server.processes",
        name="MILLSTREAM_PROCESSES",
        kind=whole_number(1, 64),
        help="Server processes that share the port.",
    ),
    Setting(
        path="server.base_url",
        name="MILLSTREAM_BASE_URL",
        aliases=_aliases("BASE_URL"),
        kind=url("https", "http"),
        help="The server's public URL, used in links that it hands out; without it, the one of the request.",
    ),
    Setting(
        path="server.enable_hsts",
        name="MILLSTREAM_ENABLE_HSTS",
        aliases=_aliases("ENABLE_HSTS"),
        kind=SWITCH,
        help="Send Strict-Transport-Security.",
    ),
    Setting(
        path="server.force_https",
        name="MILLSTREAM_FORCE_HTTPS",
        aliases=_aliases("FORCE_HTTPS"),
        kind=SWITCH,
        help="Refuse API requests that a proxy in front did not receive over TLS (X-Forwarded-Proto).",
    ),
    Setting(
        path="server.trusted_proxies",
        name="MILLSTREAM_TRUSTED_PROXIES",
        kind=NETWORKS,
        help="Proxies whose X-Forwarded-For names the client; without any a client is who is connected.",
    ),
    Setting(
        path="server.cors_allowed_origins",
        name="MILLSTREAM_CORS_ALLOWED_ORIGINS",
        aliases=_aliases("CORS_ALLOWED_ORIGINS"),
        kind=ORIGINS,
        help="Web origins that may call the API in staging and production; in development all may.",
    ),
    Setting(
        path="server.shutdown_seconds",
        name="MILLSTREAM_SHUTDOWN_SECONDS",
        kind=seconds(0, 3_600),
        help="How long running requests may take to finish when the server stops.",
    ),
    Setting(
        path="server.request_timeout_seconds",
        name="MILLSTREAM_REQUEST_TIMEOUT_SECONDS",
        kind=seconds(0.1, 3_600),
        help="Longest time of a request before it is answered 408; streams and long polls are exempt.",
    ),
    Setting(
        path="database.url",
        name="MILLSTREAM_DATABASE_URL",
        aliases=_aliases("DATABASE_URL"),
        # Empty is refused: an unset secret in a deployment must not start an embedded database instead.
        kind=secret_url(*_POSTGRES, empty_is_absent=False),
        help="PostgreSQL to use instead of the embedded server; a pooler in front is fine.",
    ),
    Setting(
        path="database.direct_url",
        name="MILLSTREAM_DATABASE_DIRECT_URL",
        aliases=_aliases("DATABASE_DIRECT_URL"),
        kind=secret_url(*_POSTGRES, empty_is_absent=True),
        help="The same database without the pooler, for migrations and notifications.",
    ),
    Setting(
        path="database.data_dir",
        name="MILLSTREAM_DATA_DIR",
        kind=PATH,
        help="Directory of the embedded server's data.",
    ),
    Setting(
        path="database.postgres_bin_dir",
        name="MILLSTREAM_POSTGRES_BIN_DIR",
        kind=PATH,
        help="Directory of the PostgreSQL programs that the embedded server runs.",
    ),
    Setting(
        path="database.max_connections",
        name="MILLSTREAM_DATABASE_MAX_CONNECTIONS",
        aliases=_aliases("DATABASE_MAX_CONNECTIONS"),
        kind=whole_number(1, 10_000),
        help="Most connections in the pool of one process.",
    ),
    Setting(
        path="database.min_connections",
        name="MILLSTREAM_DATABASE_MIN_CONNECTIONS",
        aliases=_aliases("DATABASE_MIN_CONNECTIONS"),
        kind=whole_number(0, 10_000),
        help="Connections kept open; at most the largest number.",
    ),
    Setting(
        path="database.acquire_timeout_seconds",
        name="MILLSTREAM_DATABASE_ACQUIRE_TIMEOUT_SECONDS",
        aliases=_aliases("DATABASE_ACQUIRE_TIMEOUT_SECS"),
        kind=seconds(0.1, 3_600),
        help="Longest wait for a connection of the pool.",
    ),
    Setting(
        path="redis.url",
        name="MILLSTREAM_REDIS_URL",
        aliases=_aliases("REDIS_URL"),
        kind=secret_url("redis", "rediss", "unix", empty_is_absent=True),
        help="Redis or Valkey for hints between processes and shared rate limits; optional.",
    ),
    Setting(
        path="redis.pool_size",
        name="MILLSTREAM_REDIS_POOL_SIZE",
        aliases=_aliases("REDIS_POOL_SIZE"),
        kind=whole_number(1, 10_000),
        help="Most connections to Redis of one process.",
    ),
    Setting(
        path="queue.default_max_retries",
        name="MILLSTREAM_QUEUE_DEFAULT_MAX_RETRIES",
        aliases=_aliases("QUEUE_DEFAULT_MAX_RETRIES", "QUEUE_MAX_RETRIES"),
        kind=whole_number(0, limits.MAX_RETRIES_MAX),
        help="Retries of a job when neither it nor its queue says otherwise.",
    ),
    Setting(
        path="queue.default_timeout_seconds",
        name="MILLSTREAM_QUEUE_DEFAULT_TIMEOUT_SECONDS",
        aliases=_aliases("QUEUE_DEFAULT_TIMEOUT_SECS", "QUEUE_DEFAULT_TIMEOUT"),
        kind=whole_number(1, limits.TIMEOUT_SECONDS_MAX),
        help="Run time that a worker grants a job when neither it nor its queue says otherwise.",
    ),
    Setting(
        path="queue.payload_bytes_max",
        name="MILLSTREAM_QUEUE_PAYLOAD_BYTES_MAX",
        aliases=_aliases("QUEUE_MAX_PAYLOAD_SIZE_BYTES"),
        kind=whole_number(1, limits.BODY_BYTES_MAX),
        help="Largest payload of a job; a plan's own limit may be lower.",
    ),
    Setting(
        path="worker.heartbeat_interval_seconds",
        name="MILLSTREAM_WORKER_HEARTBEAT_INTERVAL_SECONDS",
        aliases=_aliases("WORKER_HEARTBEAT_INTERVAL_SECS", "WORKER_HEARTBEAT_INTERVAL"),
        kind=whole_number(1, limits.LEASE_SECONDS_MAX),
        help="Time between two heartbeats of a worker; shorter than the lease.",
    ),
    Setting(
        path="worker.lease_seconds",
        name="MILLSTREAM_WORKER_LEASE_SECONDS",
        aliases=_aliases("WORKER_LEASE_DURATION_SECS", "WORKER_LEASE_DURATION"),
        kind=whole_number(limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX),
        help="Lease of a claimed job when the claim does not say otherwise.",
    ),
    Setting(
        path="worker.max_concurrency",
        name="MILLSTREAM_WORKER_MAX_CONCURRENCY",
        aliases=_aliases("WORKER_MAX_CONCURRENCY"),
        kind=whole_number(1, limits.WORKER_CONCURRENCY_MAX),
        help="Concurrency of a worker that does not say otherwise.",
    ),
    Setting(
        path="worker.fallback_poll_interval_seconds",
        name="MILLSTREAM_WORKER_FALLBACK_POLL_INTERVAL_SECONDS",
        aliases=_aliases("WORKER_FALLBACK_POLL_INTERVAL_SECS"),
        kind=whole_number(1, _DAY_SECONDS),
        help="Time between two looks for work when no hint arrives.",
        reserved=True,
    ),
    Setting(
        path="security.jwt_secret",
        name="MILLSTREAM_JWT_SECRET",
        aliases=_aliases("JWT_SECRET"),
        kind=SECRET,
        help="Signs access tokens. Required in staging and production; in development one is made and kept.",
    ),
    Setting(
        path="security.jwt_expiration_hours",
        name="MILLSTREAM_JWT_EXPIRATION_HOURS",
        aliases=_aliases("JWT_EXPIRATION_HOURS"),
        kind=whole_number(1, 8_760),
        help="Life of an access token.",
    ),
    Setting(
        path="security.admin_api_key",
        name="MILLSTREAM_ADMIN_API_KEY",
        aliases=_aliases("ADMIN_API_KEY"),
        kind=SECRET_OR_EMPTY,
        help="Opens the admin API, and registration while it is closed. Empty: none, and none is made at first start.",
    ),
    Setting(
        path="security.registration_mode",
        name="MILLSTREAM_REGISTRATION_MODE",
        aliases=_aliases("REGISTRATION_MODE"),
        kind=choice(RegistrationMode),
        help="Who may create organizations: anybody, who has the admin key, or nobody.",
    ),
    Setting(
        path="security.metrics_token",
        name="MILLSTREAM_METRICS_TOKEN",
        aliases=_aliases("METRICS_TOKEN"),
        kind=SECRET,
        help="Bearer token of the metrics endpoints; without it they are open.",
    ),
    Setting(
        path="security.github_webhook_secret",
        name="MILLSTREAM_GITHUB_WEBHOOK_SECRET",
        aliases=_aliases("GITHUB_WEBHOOK_SECRET"),
        kind=SECRET,
        help="Checks the signature of incoming GitHub webhooks; without it they are refused.",
    ),
    Setting(
        path="security.stripe_webhook_secret",
        name="MILLSTREAM_STRIPE_WEBHOOK_SECRET",
        aliases=_aliases("STRIPE_WEBHOOK_SECRET"),
        kind=SECRET,
        help="Checks the signature of incoming Stripe webhooks; without it they are refused.",
    ),
    Setting(
        path="security.api_key_pepper",
        name="MILLSTREAM_API_KEY_PEPPER",
        kind=SECRET,
        help="Keys the digests by which API keys are found; without it one is made at installation.",
    ),
    Setting(
        path="security.api_key_hash_cost",
        name="MILLSTREAM_API_KEY_HASH_COST",
        kind=whole_number(4, 16),
        help="Cost of the bcrypt hashes of new API keys. A key is random: no cost makes it easier to guess.",
    ),
    Setting(
        path="mail.smtp_url",
        name="MILLSTREAM_SMTP_URL",
        aliases=_aliases("SMTP_URL"),
        kind=secret_url("smtp", "smtps", empty_is_absent=True),
        help="Mail server, such as smtps://user:password@mail.example.com; turns sign-in by e-mail on.",
    ),
    Setting(
        path="mail.sender",
        name="MILLSTREAM_MAIL_FROM",
        kind=EMAIL,
        help="Address that mail comes from.",
    ),
    Setting(
        path="webhooks.attempts",
        name="MILLSTREAM_WEBHOOK_ATTEMPTS",
        aliases=_aliases("WEBHOOK_MAX_ATTEMPTS"),
        kind=whole_number(1, limits.WEBHOOK_ATTEMPTS_MAX),
        help="How often an outgoing webhook's delivery is attempted before it counts as failed.",
    ),
    Setting(
        path="workflows.jobs_max",
        name="MILLSTREAM_WORKFLOW_JOBS_MAX",
        kind=whole_number(1, limits.WORKFLOW_JOBS_MAX),
        help="Most jobs of one workflow.",
    ),
    *TOPIC_SETTINGS,
    Setting(
        path="rate_limit.enabled",
        name="MILLSTREAM_RATE_LIMIT_ENABLED",
        kind=SWITCH,
        strict_default=True,
        help="Limit the requests of organizations, API keys and, without a credential, addresses.",
    ),
    Setting(
        path="rate_limit.requests_per_second",
        name="MILLSTREAM_RATE_LIMIT_REQUESTS_PER_SECOND",
        aliases=_aliases("RATE_LIMIT_REQUESTS_PER_SECOND"),
        kind=whole_number(1, 1_000_000),
        help="Requests a second that an address may keep up without a credential; plans say it for organizations.",
    ),
    Setting(
        path="rate_limit.burst",
        name="MILLSTREAM_RATE_LIMIT_BURST",
        aliases=_aliases("RATE_LIMIT_BURST_SIZE", "RATE_LIMIT_BURST"),
        kind=whole_number(1, 1_000_000),
        help="Requests that an address may send at once without a credential.",
    ),
    Setting(
        path="log.level",
        name="MILLSTREAM_LOG_LEVEL",
        aliases=(Alias("LOG_LEVEL"), Alias("RUST_LOG", REFERENCE_LOG_FILTER)),
        kind=LOG_FILTER,
        help="What is logged, such as info,millstream.engine=debug.",
    ),
    Setting(
        path="log.json",
        name="MILLSTREAM_LOG_JSON",
        aliases=_aliases("JSON_LOGS"),
        kind=SWITCH,
        help="Log one JSON object a line.",
    ),
    Setting(
        path="otel.endpoint",
        name="MILLSTREAM_OTEL_ENDPOINT",
        aliases=_aliases("OTEL_EXPORTER_OTLP_ENDPOINT"),
        kind=url("http", "https"),
        help="OTLP endpoint that receives traces; without it there are none.",
    ),
    Setting(
        path="otel.service_name",
        name="MILLSTREAM_OTEL_SERVICE_NAME",
        aliases=(Alias("OTEL_SERVICE_NAME"), Alias("SERVICE_NAME", fallback=True)),
        kind=TEXT,
        help="Name of this service in traces.",
    ),
    Setting(
        path="otel.environment",
        name="MILLSTREAM_OTEL_ENVIRONMENT",
        aliases=_aliases("ENVIRONMENT"),
        kind=TEXT,
        help="Label of the deployment in traces; without it the name of the environment.",
    ),
    Setting(
        path="otel.resource_attributes",
        name="MILLSTREAM_OTEL_RESOURCE_ATTRIBUTES",
        aliases=_aliases("OTEL_RESOURCE_ATTRIBUTES"),
        kind=ATTRIBUTES,
        help="Further attributes of this service in traces.",
    ),
    Setting(
        path="otel.pod_name",
        name="MILLSTREAM_POD_NAME",
        aliases=_aliases("POD_NAME"),
        kind=TEXT,
        help="Kubernetes pod, as an attribute of traces.",
    ),
    Setting(
        path="otel.pod_namespace",
        name="MILLSTREAM_POD_NAMESPACE",
        aliases=_aliases("POD_NAMESPACE"),
        kind=TEXT,
        help="Kubernetes namespace, as an attribute of traces.",
    ),
    Setting(
        path="otel.pod_ip",
        name="MILLSTREAM_POD_IP",
        aliases=_aliases("POD_IP"),
        kind=TEXT,
        help="Address of the Kubernetes pod, as an attribute of traces.",
    ),
)

# Set by deployments made for the server that this one replaces. Refusing them would break those deployments;
# ignoring them in silence would mislead their operators.
UNREAD: Final[dict[str, str]] = {
    "PGBOUNCER_HOST": "the pooler's address belongs into DATABASE_URL",
    "PGBOUNCER_PORT": "the pooler's address belongs into DATABASE_URL",
    "WORKER_STALE_THRESHOLD": "a worker is offline after two minutes without a heartbeat",
}

# Variables with our prefix that other programs of ours read.
READ_ELSEWHERE: Final = frozenset({"MILLSTREAM_URL", "MILLSTREAM_API_KEY"})

DEFAULTS: Final = Config()


def default_of(path: str) -> object:
    """Return the schema's default of the setting at `path`, such as `server.port`."""
    group, field = path.split(".")
    # The schema is the only place of defaults; a path that it does not have is a mistake in the table.
    value: object = getattr(getattr(DEFAULTS, group), field)
    return value
