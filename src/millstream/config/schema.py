"""Every setting of the server as frozen data. `settings.py` says where each one comes from."""

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from msgspec import Struct

from millstream.config.secret import Secret
from millstream.domain import limits
from millstream.domain.topic_settings import TopicSettings


class Environment(StrEnum):
    """How strict the server is about secrets, origins and limits. Contract: spooled-tenancy 14.1."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class RegistrationMode(StrEnum):
    """Who may create an organization. Contract: spooled-tenancy 17."""

    OPEN = "open"
    CLOSED = "closed"
    INVITE = "invite"


class LogLevel(StrEnum):
    """The least urgent line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
    OFF = "off"


class LogFilter(Struct, frozen=True, kw_only=True):
    """A level for everything, and other levels for some loggers (by dotted name, with what is below them)."""

    default: LogLevel = LogLevel.INFO
    targets: tuple[tuple[str, LogLevel], ...] = ()


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Listeners, processes and HTTP. Port 0 means a free one."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = 50051
    metrics_port: int = 9090
    processes: int = 1
    base_url: str | None = None
    environment: Environment = Environment.DEVELOPMENT
    enable_hsts: bool = False
    force_https: bool = False
    trusted_proxies: tuple[str, ...] = ()
    cors_allowed_origins: tuple[str, ...] = ()
    shutdown_seconds: float = 30
    request_timeout_seconds: float = 30

    @property
    def is_strict(self) -> bool:
        """True in production and staging, where weak or missing secrets stop the start."""
        return self.environment is not Environment.DEVELOPMENT

    @property
    def is_local(self) -> bool:
        """True in development on an address that only this machine reaches. Ruling R19."""
        return self.environment is Environment.DEVELOPMENT and _is_loopback(self.host)


class DatabaseConfig(Struct, frozen=True, kw_only=True):
    """An external server when `url` is given, else the embedded one in `data_dir` (None: the default place)."""

    url: Secret | None = None
    direct_url: Secret | None = None
    data_dir: Path | None = None
    postgres_bin_dir: Path | None = None
    max_connections: int = 25
    min_connections: int = 5
    acquire_timeout_seconds: float = 30


class RedisConfig(Struct, frozen=True, kw_only=True):
    """The optional Redis or Valkey for hints between processes and shared rate limits."""

    url: Secret | None = None
    pool_size: int = 10


class QueueConfig(Struct, frozen=True, kw_only=True):
    """What a job gets when neither it nor its queue says otherwise."""

    default_max_retries: int = 3
    default_timeout_seconds: int = 300
    payload_bytes_max: int = limits.PAYLOAD_BYTES_MAX


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """What a worker gets when it does not say otherwise."""

    heartbeat_interval_seconds: int = 10
    lease_seconds: int = 30
    max_concurrency: int = 5
    fallback_poll_interval_seconds: int = 5


class SecurityConfig(Struct, frozen=True, kw_only=True):
    """Secrets and access. None is "not given"; an empty `admin_api_key` is "none wanted" (ruling R30)."""

    jwt_secret: Secret | None = None
    jwt_expiration_hours: int = 24
    admin_api_key: Secret | None = None
    registration_mode: RegistrationMode = RegistrationMode.OPEN
    metrics_token: Secret | None = None
    github_webhook_secret: Secret | None = None
    stripe_webhook_secret: Secret | None = None
    api_key_pepper: Secret | None = None
    api_key_hash_cost: int = 12


class MailConfig(Struct, frozen=True, kw_only=True):
    """The mail server for sign-in by e-mail (None: there is no such sign-in), and whom its mail is from."""

    smtp_url: Secret | None = None
    sender: str = "millstream@localhost"


class WebhookConfig(Struct, frozen=True, kw_only=True):
    """How often an outgoing webhook is attempted."""

    attempts: int = 5


class WorkflowConfig(Struct, frozen=True, kw_only=True):
    """How many jobs one workflow may have."""

    jobs_max: int = 100


class RateLimitConfig(Struct, frozen=True, kw_only=True):
    """Whether requests are limited, and what an address may send without a credential; plans say the rest."""

    enabled: bool = False
    requests_per_second: int = 100
    burst: int = 200


class LogConfig(Struct, frozen=True, kw_only=True):
    """What is logged, and whether as JSON lines or for people."""

    level: LogFilter = LogFilter()
    json: bool = False


class OtelConfig(Struct, frozen=True, kw_only=True):
    """Where traces go (None: nowhere) and what their resource says. Contract: spooled-tenancy 13.5.

    `environment` is the resource's label only; None stands for the name of `server.environment`.
    """

    endpoint: str | None = None
    service_name: str = "spooled-backend"
    environment: str | None = None
    resource_attributes: tuple[tuple[str, str], ...] = ()
    pod_name: str | None = None
    pod_namespace: str | None = None
    pod_ip: str | None = None


class Config(Struct, frozen=True, kw_only=True):
    """All settings, checked. `notices` are remarks on them for the operator; log them at start."""

    server: ServerConfig = ServerConfig()
    database: DatabaseConfig = DatabaseConfig()
    redis: RedisConfig = RedisConfig()
    queue: QueueConfig = QueueConfig()
    worker: WorkerConfig = WorkerConfig()
    security: SecurityConfig = SecurityConfig()
    mail: MailConfig = MailConfig()
    webhooks: WebhookConfig = WebhookConfig()
    workflows: WorkflowConfig = WorkflowConfig()
    topics: TopicSettings = TopicSettings()
    rate_limit: RateLimitConfig = RateLimitConfig()
    log: LogConfig = LogConfig()
    otel: OtelConfig = OtelConfig()
    notices: tuple[str, ...] = ()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # Other names may resolve to any address.
        return host.lower() == "localhost"
