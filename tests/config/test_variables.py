"""Every variable of the contract's tables (spooled-tenancy 14.1 to 14.4): what it sets, and what it refuses."""

from functools import reduce
from pathlib import Path

import pytest

from millstream.config import Config, ConfigError, Environment, RegistrationMode, Secret, load
from millstream.config.schema import LogFilter, LogLevel
from millstream.config.settings import SETTINGS

STRONG = "kX9#mQ2$vL7!pR4&zT8*wB5^nH3@cF6%"
STRICT = {"MILLSTREAM_ENV": "production", "JWT_SECRET": STRONG}

DEFAULTS: list[tuple[str, object]] = [
    ("server.host", "127.0.0.1"),
    ("server.port", 8080),
    ("server.metrics_port", 9090),
    ("server.grpc_port", 50051),
    ("server.environment", Environment.DEVELOPMENT),
    ("server.base_url", None),
    ("server.enable_hsts", False),
    ("server.cors_allowed_origins", ()),
    ("database.url", None),
    ("database.direct_url", None),
    ("database.max_connections", 25),
    ("database.min_connections", 5),
    ("database.acquire_timeout_seconds", 30.0),
    ("redis.url", None),
    ("redis.pool_size", 10),
    ("security.jwt_secret", None),
    ("security.jwt_expiration_hours", 24),
    ("security.admin_api_key", None),
    ("security.registration_mode", RegistrationMode.OPEN),
    ("security.metrics_token", None),
    ("security.github_webhook_secret", None),
    ("security.stripe_webhook_secret", None),
    ("mail.smtp_url", None),
    ("mail.sender", "millstream@localhost"),
    ("webhooks.attempts", 5),
    ("rate_limit.enabled", False),
    ("rate_limit.requests_per_second", 100),
    ("rate_limit.burst", 200),
    ("queue.default_max_retries", 3),
    ("queue.default_timeout_seconds", 300),
    ("queue.payload_bytes_max", 1_048_576),
    ("topics.requests_per_second_max", 0),
    ("topics.default_partitions", 3),
    ("topics.default_retention_hours", 168),
    ("topics.delay_seconds_max", 671_088.64),
    ("topics.session_seconds", 30.0),
    ("topics.starts_latest", False),
    ("topics.poll_wait_seconds", 30.0),
    ("topics.poll_wait_seconds_max", 28.0),
    ("topics.poll_messages", 100),
    ("topics.poll_messages_max", 1000),
    ("topics.visibility_seconds", 30.0),
    ("topics.deliveries_max", 3),
    ("topics.dead_letter_suffix", ".dlq"),
    ("worker.heartbeat_interval_seconds", 10),
    ("worker.lease_seconds", 30),
    ("worker.max_concurrency", 5),
    ("worker.fallback_poll_interval_seconds", 5),
    ("otel.endpoint", None),
    ("otel.service_name", "spooled-backend"),
    ("log.json", False),
    ("log.level", LogFilter(default=LogLevel.INFO)),
]

GOOD: list[tuple[str, str, str, object]] = [
    ("HOST", "0.0.0.0", "server.host", "0.0.0.0"),
    ("HOST", "[::1]", "server.host", "::1"),
    ("HOST", "", "server.host", "127.0.0.1"),
    ("HOST", "db-1.internal", "server.host", "db-1.internal"),
    ("PORT", "3000", "server.port", 3000),
    ("PORT", " 65535 ", "server.port", 65_535),
    ("METRICS_PORT", "1", "server.metrics_port", 1),
    ("GRPC_PORT", "6000", "server.grpc_port", 6000),
    ("RUST_ENV", "development", "server.environment", Environment.DEVELOPMENT),
    ("RUST_ENV", "local", "server.environment", Environment.DEVELOPMENT),
    ("RUST_ENV", "", "server.environment", Environment.DEVELOPMENT),
    ("ENVIRONMENT", "eu-west", "otel.environment", "eu-west"),
    ("BASE_URL", "https://jobs.example.com/", "server.base_url", "https://jobs.example.com"),
    ("ENABLE_HSTS", "true", "server.enable_hsts", True),
    ("ENABLE_HSTS", "1", "server.enable_hsts", True),
    ("ENABLE_HSTS", "False", "server.enable_hsts", False),
    ("ENABLE_HSTS", "", "server.enable_hsts", False),
    ("FORCE_HTTPS", "true", "server.force_https", True),
    (
        "CORS_ALLOWED_ORIGINS",
        "https://a.example, http://b.example:3000/,",
        "server.cors_allowed_origins",
        ("https://a.example", "http://b.example:3000"),
    ),
    ("DATABASE_URL", "postgres://u:p@h/d", "database.url", Secret("postgres://u:p@h/d")),
    ("DATABASE_URL", "postgresql:///d?host=/tmp", "database.url", Secret("postgresql:///d?host=/tmp")),
    ("DATABASE_URL", "postgresql://a:1,b:2/d", "database.url", Secret("postgresql://a:1,b:2/d")),
    ("DATABASE_MAX_CONNECTIONS", "5", "database.max_connections", 5),
    ("DATABASE_MIN_CONNECTIONS", "25", "database.min_connections", 25),
    (
        "MILLSTREAM_TRUSTED_PROXIES",
        "10.0.0.0/8, 192.168.1.7,::1",
        "server.trusted_proxies",
        ("10.0.0.0/8", "192.168.1.7/32", "::1/128"),
    ),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "2.5", "database.acquire_timeout_seconds", 2.5),
    ("REDIS_URL", "rediss://:pw@h:6380/1", "redis.url", Secret("rediss://:pw@h:6380/1")),
    ("REDIS_URL", "", "redis.url", None),
    ("REDIS_POOL_SIZE", "1", "redis.pool_size", 1),
    ("JWT_SECRET", "short", "security.jwt_secret", Secret("short")),
    ("JWT_EXPIRATION_HOURS", "8760", "security.jwt_expiration_hours", 8760),
    ("SMTP_URL", "smtps://u:p@mail.example.com", "mail.smtp_url", Secret("smtps://u:p@mail.example.com")),
    ("SMTP_URL", "", "mail.smtp_url", None),
    ("MILLSTREAM_MAIL_FROM", "jobs@example.com", "mail.sender", "jobs@example.com"),
    ("ADMIN_API_KEY", "root", "security.admin_api_key", Secret("root")),
    ("ADMIN_API_KEY", "", "security.admin_api_key", Secret("")),
    ("ADMIN_API_KEY", "  ", "security.admin_api_key", Secret("")),
    ("REGISTRATION_MODE", "CLOSED", "security.registration_mode", RegistrationMode.CLOSED),
    ("REGISTRATION_MODE", "invite", "security.registration_mode", RegistrationMode.INVITE),
    ("METRICS_TOKEN", "m", "security.metrics_token", Secret("m")),
    ("METRICS_TOKEN", "", "security.metrics_token", None),
    ("GITHUB_WEBHOOK_SECRET", "g", "security.github_webhook_secret", Secret("g")),
    ("STRIPE_WEBHOOK_SECRET", "s", "security.stripe_webhook_secret", Secret("s")),
    ("RATE_LIMIT_REQUESTS_PER_SECOND", "50", "rate_limit.requests_per_second", 50),
    ("RATE_LIMIT_BURST_SIZE", "60", "rate_limit.burst", 60),
    ("RATE_LIMIT_BURST", "60", "rate_limit.burst", 60),
    ("GOQUEUE_BROKER_NODEID", "node-7", "topics.node_id", "node-7"),
    ("MILLSTREAM_TOPIC_DEAD_LETTERS", "no", "topics.dead_letters", False),
    ("MILLSTREAM_GROUP_RETRY_FACTOR", "1.5", "topics.retry_factor", 1.5),
    ("MILLSTREAM_GROUP_DELIVERIES_MAX", "1", "topics.deliveries_max", 1),
    ("QUEUE_DEFAULT_MAX_RETRIES", "0", "queue.default_max_retries", 0),
    ("QUEUE_MAX_RETRIES", "9", "queue.default_max_retries", 9),
    ("QUEUE_DEFAULT_TIMEOUT_SECS", "60", "queue.default_timeout_seconds", 60),
    ("QUEUE_DEFAULT_TIMEOUT", "60", "queue.default_timeout_seconds", 60),
    ("QUEUE_MAX_PAYLOAD_SIZE_BYTES", "5242880", "queue.payload_bytes_max", 5_242_880),
    ("WORKER_HEARTBEAT_INTERVAL_SECS", "29", "worker.heartbeat_interval_seconds", 29),
    ("WORKER_HEARTBEAT_INTERVAL", "29", "worker.heartbeat_interval_seconds", 29),
    ("WORKER_LEASE_DURATION_SECS", "11", "worker.lease_seconds", 11),
    ("WORKER_LEASE_DURATION", "11", "worker.lease_seconds", 11),
    ("WORKER_MAX_CONCURRENCY", "20", "worker.max_concurrency", 20),
    ("WEBHOOK_MAX_ATTEMPTS", "9", "webhooks.attempts", 9),
    ("WORKER_FALLBACK_POLL_INTERVAL_SECS", "1", "worker.fallback_poll_interval_seconds", 1),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://jaeger:4317", "otel.endpoint", "http://jaeger:4317"),
    ("OTEL_SERVICE_NAME", "jobs", "otel.service_name", "jobs"),
    ("SERVICE_NAME", "jobs", "otel.service_name", "jobs"),
    ("JSON_LOGS", "1", "log.json", True),
    ("JSON_LOGS", "true", "log.json", True),
    ("LOG_LEVEL", "WARN", "log.level", LogFilter(default=LogLevel.WARNING)),
    ("LOG_LEVEL", "", "log.level", LogFilter()),
    (
        "RUST_LOG",
        "info,spooled_backend=debug,tower_http::trace=warn,sqlx",
        "log.level",
        LogFilter(
            default=LogLevel.INFO,
            targets=(
                ("millstream", LogLevel.DEBUG),
                ("tower_http.trace", LogLevel.WARNING),
                ("sqlx", LogLevel.DEBUG),
            ),
        ),
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "k8s.namespace.name=jobs,note=a%2Cb",
        "otel.resource_attributes",
        (("k8s.namespace.name", "jobs"), ("note", "a,b")),
    ),
    ("POD_NAME", "jobs-0", "otel.pod_name", "jobs-0"),
    ("POD_NAMESPACE", "jobs", "otel.pod_namespace", "jobs"),
    ("POD_IP", "10.0.0.7", "otel.pod_ip", "10.0.0.7"),
]

BAD: list[tuple[str, str]] = [
    ("HOST", "two words"),
    ("MILLSTREAM_TOPIC_DEAD_LETTER_SUFFIX", "/dlq hunter2"),
    ("MILLSTREAM_TOPIC_COMPACTION_DIRTY_RATIO", "1.01"),
    ("MILLSTREAM_GROUP_RETRY_FACTOR", "-2"),
    ("MILLSTREAM_GROUP_DELIVERIES_MAX", "0"),
    ("HOST", "http://here"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("PORT", ""),
    ("PORT", "8080.0"),
    ("PORT", "٨٠٨٠"),
    ("PORT", "9" * 5000),
    ("METRICS_PORT", "0"),
    ("GRPC_PORT", "grpc"),
    ("MILLSTREAM_ENV", "prodution"),
    ("BASE_URL", "jobs.example.com"),
    ("BASE_URL", "https://jobs.example.com/?a=b"),
    ("BASE_URL", "https://jobs.example.com:port"),
    ("ENABLE_HSTS", "maybe"),
    ("FORCE_HTTPS", "2"),
    ("MILLSTREAM_TRUSTED_PROXIES", "proxy.internal"),
    ("MILLSTREAM_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("MILLSTREAM_TRUSTED_PROXIES", "10.0.0.0/33"),
    ("CORS_ALLOWED_ORIGINS", "app.example.com"),
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com/path"),
    ("DATABASE_URL", ""),
    ("DATABASE_URL", "mysql://hunter2@h/d"),
    ("DATABASE_URL", "postgresql+asyncpg://hunter2@h/d"),
    ("DATABASE_URL", "host=h password=hunter2"),
    ("DATABASE_DIRECT_URL", "hunter2"),
    ("DATABASE_MAX_CONNECTIONS", "0"),
    ("DATABASE_MIN_CONNECTIONS", "-1"),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "0"),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "nan"),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "inf"),
    ("REDIS_URL", "http://hunter2@h"),
    ("REDIS_POOL_SIZE", "0"),
    ("JWT_SECRET", "hunter2\n"),
    ("JWT_EXPIRATION_HOURS", "0"),
    ("JWT_EXPIRATION_HOURS", "8761"),
    ("ADMIN_API_KEY", "hunter2\r\n"),
    ("SMTP_URL", "http://u:hunter2@mail.example.com"),
    ("MILLSTREAM_MAIL_FROM", "hunter2"),
    ("REGISTRATION_MODE", "hunter2"),
    ("METRICS_TOKEN", "hunter2\x00"),
    ("METRICS_TOKEN", "hunter2\udcff"),
    ("GITHUB_WEBHOOK_SECRET", "hunter2\n"),
    ("STRIPE_WEBHOOK_SECRET", "hunter2\n"),
    ("RATE_LIMIT_REQUESTS_PER_SECOND", "0"),
    ("RATE_LIMIT_BURST_SIZE", "0"),
    ("RATE_LIMIT_BURST", "many"),
    ("QUEUE_DEFAULT_MAX_RETRIES", "101"),
    ("QUEUE_MAX_RETRIES", "-1"),
    ("QUEUE_DEFAULT_TIMEOUT_SECS", "0"),
    ("QUEUE_DEFAULT_TIMEOUT", "soon"),
    ("QUEUE_MAX_PAYLOAD_SIZE_BYTES", "0"),
    ("WORKER_HEARTBEAT_INTERVAL_SECS", "0"),
    ("WORKER_HEARTBEAT_INTERVAL", "0"),
    ("WORKER_LEASE_DURATION_SECS", "4"),
    ("WORKER_LEASE_DURATION", "3601"),
    ("WORKER_MAX_CONCURRENCY", "0"),
    ("WEBHOOK_MAX_ATTEMPTS", "11"),
    ("WORKER_FALLBACK_POLL_INTERVAL_SECS", "0"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "jaeger:4317"),
    ("OTEL_SERVICE_NAME", "a\nb"),
    ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
    ("JSON_LOGS", "yaml"),
    ("LOG_LEVEL", "inof"),
    ("LOG_LEVEL", "millstream=loud"),
    ("RUST_LOG", "spooled[request{id=5}]=debug"),
]


def value_at(config: Config, path: str) -> object:
    return reduce(getattr, path.split("."), config)


@pytest.mark.parametrize(("path", "expected"), DEFAULTS)
def test_what_is_not_given_has_its_default(tmp_path: Path, path: str, expected: object) -> None:
    assert value_at(load({}, environ={}, directory=tmp_path), path) == expected


@pytest.mark.parametrize(("variable", "text", "path", "expected"), GOOD)
def test_a_variable_sets_what_its_contract_says(
    tmp_path: Path, variable: str, text: str, path: str, expected: object
) -> None:
    config = load({}, environ={variable: text}, directory=tmp_path)

    assert value_at(config, path) == expected


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_value_that_cannot_be_used_stops_the_start_and_is_not_shown(
    tmp_path: Path, variable: str, text: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, environ={variable: text}, directory=tmp_path)

    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable} must be ")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_direct_url_comes_with_the_url_itself(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "postgres://pooler/d", "DATABASE_DIRECT_URL": "postgres://primary/d"}

    config = load({}, environ=environ, directory=tmp_path)

    assert config.database.direct_url == Secret("postgres://primary/d")


@pytest.mark.parametrize("environment", ["production", "staging", "Production"])
def test_strict_environments_listen_everywhere_and_limit_rates(tmp_path: Path, environment: str) -> None:
    config = load({}, environ={"RUST_ENV": environment, "JWT_SECRET": STRONG}, directory=tmp_path)

    assert config.server.environment == environment.lower()
    assert config.server.is_strict
    assert config.server.host == "0.0.0.0"
    assert config.rate_limit.enabled


def test_defaults_of_strict_environments_yield_to_what_is_given(tmp_path: Path) -> None:
    environ = STRICT | {"HOST": "10.0.0.1", "MILLSTREAM_RATE_LIMIT_ENABLED": "false"}

    config = load({}, environ=environ, directory=tmp_path)

    assert config.server.host == "10.0.0.1"
    assert not config.rate_limit.enabled


STRICT_ONLY: list[tuple[str, str, str]] = [
    ("JWT_SECRET", "aB3$eF6&hJ9(kM2)nP5+rS8=uV1~xY4", "32 characters"),
    ("JWT_SECRET", "abcabcabcabcabcabcabcabcabcabcabcabc", "10 different characters"),
    *(
        ("JWT_SECRET", f"kX9#mQ2$vL7!pR4&zT8*wB5^{word.upper()}nH3@cF6%", "must not contain any of")
        for word in (
            "development",
            "secret",
            "password",
            "change-me",
            "your-secret",
            "jwt-secret",
            "test",
            "demo",
        )
    ),
    ("GITHUB_WEBHOOK_SECRET", "fifteen-letters", "16 characters"),
    ("STRIPE_WEBHOOK_SECRET", "fifteen-letters", "16 characters"),
    ("MILLSTREAM_API_KEY_PEPPER", "fifteen-letters", "16 characters"),
]


@pytest.mark.parametrize("environment", ["production", "staging"])
@pytest.mark.parametrize(("variable", "text", "rule"), STRICT_ONLY)
def test_strict_environments_refuse_weak_secrets(
    tmp_path: Path, environment: str, variable: str, text: str, rule: str
) -> None:
    environ = STRICT | {"MILLSTREAM_ENV": environment, variable: text}

    with pytest.raises(ConfigError) as refused:
        load({}, environ=environ, directory=tmp_path)

    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable} must ")
    assert rule in problem
    assert text not in problem


@pytest.mark.parametrize(("variable", "text", "rule"), STRICT_ONLY)
def test_development_takes_weak_secrets(tmp_path: Path, variable: str, text: str, rule: str) -> None:
    load({}, environ={variable: text}, directory=tmp_path)


@pytest.mark.parametrize("jwt_secret", [{}, {"JWT_SECRET": ""}])
def test_strict_environments_need_a_jwt_secret(tmp_path: Path, jwt_secret: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, environ={"RUST_ENV": "production"} | jwt_secret, directory=tmp_path)

    assert refused.value.problems == ["MILLSTREAM_JWT_SECRET is required in staging and production"]


TOGETHER: list[tuple[dict[str, str], str]] = [
    (
        {"DATABASE_MIN_CONNECTIONS": "26"},
        "DATABASE_MIN_CONNECTIONS must be at most MILLSTREAM_DATABASE_MAX_CONNECTIONS",
    ),
    (
        {"WORKER_LEASE_DURATION_SECS": "10"},
        "MILLSTREAM_WORKER_HEARTBEAT_INTERVAL_SECONDS must be less than WORKER_LEASE_DURATION_SECS",
    ),
    (
        {"WORKER_HEARTBEAT_INTERVAL_SECS": "30"},
        "WORKER_HEARTBEAT_INTERVAL_SECS must be less than MILLSTREAM_WORKER_LEASE_SECONDS",
    ),
    (
        {"DATABASE_DIRECT_URL": "postgres://h/d"},
        "DATABASE_DIRECT_URL is of no use without MILLSTREAM_DATABASE_URL",
    ),
    ({"GRPC_PORT": "8080"}, "GRPC_PORT must be another port than MILLSTREAM_PORT"),
    ({"PORT": "9090"}, "MILLSTREAM_METRICS_PORT must be another port than PORT"),
]


@pytest.mark.parametrize(("environ", "problem"), TOGETHER)
def test_settings_that_do_not_fit_each_other_stop_the_start(
    tmp_path: Path, environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, environ=environ, directory=tmp_path)

    assert refused.value.problems == [problem]


def test_every_alias_of_the_table_has_a_row_above() -> None:
    tested = {row[0] for row in GOOD} | {"DATABASE_DIRECT_URL"}

    assert {alias.name for setting in SETTINGS for alias in setting.aliases} <= tested
