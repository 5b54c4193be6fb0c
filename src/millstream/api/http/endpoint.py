"""Endpoints: what is served where, and what a handler receives and returns."""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Literal

from msgspec import Struct
from starlette.types import Receive

from millstream.api.http.body import Body
from millstream.api.http.clients import Peer
from millstream.domain.errors import MillstreamError
from millstream.domain.rate import Standing
from millstream.domain.tenant import Principal

JSON = b"application/json"


class Request:
    """One request on its way to a handler.

    `principal` is set on endpoints that authenticate by it only, `address` (the client's, empty where there is none) on those
    that are not hot. `peer` is the other end of the connection; `standing` how the client stands with the limit that
    decides, once it was asked.
    """

    __slots__ = (
        "address",
        "body",
        "headers",
        "parameters",
        "peer",
        "principal",
        "query_string",
        "receive",
        "request_id",
        "standing",
    )

    principal: Principal

    def __init__(
        self,
        headers: Mapping[bytes, bytes],
        parameters: tuple[str, ...],
        query_string: bytes,
        receive: Receive,
        request_id: bytes,
        peer: Peer = None,
    ) -> None:
        self.headers = headers
        self.parameters = parameters
        self.query_string = query_string
        self.receive = receive
        self.request_id = request_id
        self.address = ""
        self.body = b""
        self.peer = peer
        self.standing: Standing | None = None


class Response(Struct, gc=False):
    """An answer; `headers` are sent beside those that every answer carries.

    `undelivered` is called instead when the client had closed the connection before the answer was written.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON
    undelivered: Callable[[], None] | None = None


NO_CONTENT = Response(204)

Handler = Callable[[Request], Awaitable[Response]]


class Auth(Enum):
    """Who may call an endpoint."""

    BEARER = "bearer"
    """Whoever presents an API key in `Authorization: Bearer`."""
    OPEN = "open"
    """Anybody."""
    REGISTRATION = "registration"
    """Anybody, or whoever presents the admin key in `X-Admin-Key`, as the registration mode says."""
    ADMIN = "admin"
    """Whoever presents the admin key in `X-Admin-Key`."""
    WEBHOOK = "webhook"
    """Whoever presents the organization's token in `X-Webhook-Token`, or a provider's signature of the body."""


class Parameter(Struct, frozen=True, kw_only=True):
    """One query parameter, as it is documented."""

    name: str
    kind: Literal["string", "integer", "boolean", "timestamp"] = "string"
    description: str = ""
    required: bool = False


class Endpoint(Struct, frozen=True, kw_only=True):
    """One method of one path.

    `path` names its parameters in braces; they reach the handler in order, decoded. `answers` maps each
    success status to the type of its body (None: empty). `errors` are those that the endpoint adds to
    what authentication and bodies bring. `extension` marks what the compatible API does not have, `hot`
    what is called once per job and more. `body_bytes_max` is given where bodies may be longer or shorter than
    the dialect's. `has_effects` marks a GET after which something is different: it serves no HEAD.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: Body[object] | None = None
    query: tuple[Parameter, ...] = ()
    answers: Mapping[int, object]
    errors: tuple[type[MillstreamError], ...] = ()
    auth: Auth = Auth.BEARER
    extension: bool = False
    hot: bool = False
    body_bytes_max: int | None = None
    has_effects: bool = False
