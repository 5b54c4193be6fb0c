"""What the HTTP edge can be told."""

from msgspec import Struct

from millstream.config import RegistrationMode
from millstream.domain import limits


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Settings of the HTTP edge.

    `production` tightens CORS and callback addresses; `environment` is what clients are told of it. `cors_origins` are the origins that may read
    answers; None lets any. `metrics_token` guards `/metrics`; None leaves it open. The handler limit
    includes the reading of the body. `lease_seconds` and `heartbeat_seconds` are what a registering
    worker is told. `registration_mode` says who may create an organization. `base_url` is the public address
    of links that are handed out; None takes the one that the request named.
    `force_https` refuses requests that a proxy did not receive over TLS. `trusted_proxies` are the networks whose
    `X-Forwarded-For` is believed. `topics_without_credentials` lets requests without an API key act for the default
    tenant on routes of topics; only for a server that nobody but this machine reaches.
    """

    production: bool = False
    environment: str = "development"
    cors_origins: tuple[str, ...] | None = None
    hsts: bool = False
    metrics_token: str | None = None
    body_bytes_max: int = limits.BODY_BYTES_MAX
    payload_bytes_max: int = limits.PAYLOAD_BYTES_MAX
    handler_seconds_max: float = 30.0
    lease_seconds: int = 30
    heartbeat_seconds: int = 10
    registration_mode: RegistrationMode = RegistrationMode.OPEN
    base_url: str | None = None
    force_https: bool = False
    trusted_proxies: tuple[str, ...] = ()
    topics_without_credentials: bool = False
