"""Rules between settings, and those that hold in staging and production only."""

from collections.abc import Iterator

from msgspec import Struct

from millstream.config.schema import Config
from millstream.config.secret import Secret

JWT_SECRET_CHARS_MIN = 32
JWT_SECRET_DISTINCT_CHARS_MIN = 10
JWT_SECRET_WORDS = (
    "development",
    "secret",
    "password",
    "change-me",
    "your-secret",
    "jwt-secret",
    "test",
    "demo",
)
SECRET_CHARS_MIN = 16


class Violation(Struct, frozen=True):
    """A rule that the settings at `paths` break; `text` follows the first one's name and may name the others."""

    paths: tuple[str, ...]
    text: str


def violations(config: Config) -> Iterator[Violation]:
    """Yield what is wrong with settings that are each right by themselves. No text shows a value.

    In `text`, `{1}` stands for the name of the second path. Contract: spooled-tenancy 14.
    """
    yield from _listener_violations(config)
    yield from _database_violations(config)
    if config.worker.heartbeat_interval_seconds >= config.worker.lease_seconds:
        yield Violation(
            ("worker.heartbeat_interval_seconds", "worker.lease_seconds"), "must be less than {1}"
        )
    if config.server.is_strict:
        yield from _jwt_secret_violations(config.security.jwt_secret)
        yield from _short_secret_violations(config)


def notices(config: Config) -> Iterator[str]:
    """Yield remarks on settings that are legal but probably not meant."""
    if config.database.url is not None and config.database.data_dir is not None:
        yield "a database URL is given, so the data directory is not used"


def _listener_violations(config: Config) -> Iterator[Violation]:
    ports = (
        ("server.port", config.server.port),
        ("server.grpc_port", config.server.grpc_port),
        ("server.metrics_port", config.server.metrics_port),
    )
    for index, (path, port) in enumerate(ports):
        for earlier_path, earlier_port in ports[:index]:
            if port == earlier_port != 0:
                yield Violation((path, earlier_path), "must be another port than {1}")


def _database_violations(config: Config) -> Iterator[Violation]:
    if config.database.min_connections > config.database.max_connections:
        yield Violation(("database.min_connections", "database.max_connections"), "must be at most {1}")
    if config.database.direct_url is not None and config.database.url is None:
        yield Violation(("database.direct_url", "database.url"), "is of no use without {1}")


def _jwt_secret_violations(secret: Secret | None) -> Iterator[Violation]:
    path = ("security.jwt_secret",)
    if secret is None:
        yield Violation(path, "is required in staging and production")
        return
    text = secret.reveal()
    if len(text) < JWT_SECRET_CHARS_MIN:
        yield Violation(
            path, f"must have at least {JWT_SECRET_CHARS_MIN} characters in staging and production"
        )
    if len(set(text)) < JWT_SECRET_DISTINCT_CHARS_MIN:
        yield Violation(
            path,
            f"must have at least {JWT_SECRET_DISTINCT_CHARS_MIN} different characters in staging and production",
        )
    if any(word in text.lower() for word in JWT_SECRET_WORDS):
        yield Violation(
            path, f"must not contain any of {', '.join(JWT_SECRET_WORDS)} in staging and production"
        )


def _short_secret_violations(config: Config) -> Iterator[Violation]:
    for path, secret in (
        ("security.github_webhook_secret", config.security.github_webhook_secret),
        ("security.stripe_webhook_secret", config.security.stripe_webhook_secret),
        ("security.api_key_pepper", config.security.api_key_pepper),
    ):
        if secret is not None and len(secret.reveal()) < SECRET_CHARS_MIN:
            yield Violation(
                (path,), f"must have at least {SECRET_CHARS_MIN} characters in staging and production"
            )
