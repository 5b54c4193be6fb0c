"""The REST part of this dialect: all its endpoints. Contract: goqueue-messaging 2."""

from typing import Final

from millstream.api.goqueue.access import TopicAuthenticator
from millstream.api.goqueue.acknowledging import AcknowledgingEndpoints
from millstream.api.goqueue.cooperative import CooperativeEndpoints
from millstream.api.goqueue.delayed import DelayedEndpoints
from millstream.api.goqueue.groups import GroupEndpoints
from millstream.api.goqueue.polling import PollingEndpoints
from millstream.api.goqueue.positions import PositionEndpoints
from millstream.api.goqueue.problems import ProblemBody, problem_response
from millstream.api.goqueue.publishing import PublishingEndpoints
from millstream.api.goqueue.reading import ReadingEndpoints
from millstream.api.goqueue.router import TopicRouter
from millstream.api.goqueue.statistics import StatisticsEndpoints
from millstream.api.goqueue.topics import TopicEndpoints
from millstream.api.http.clients import ClientReader
from millstream.api.http.dispatcher import Dialect
from millstream.api.http.endpoint import Endpoint
from millstream.api.http.limiter import Limiter
from millstream.api.http.openapi import OpenApiEndpoint
from millstream.api.http.settings import HttpSettings
from millstream.domain import limits
from millstream.engine.engine import Engine

DOCUMENT_PATH: Final = "/openapi.json"
# Unknown paths below these are this dialect's to answer.
_PREFIXES: Final = (
    b"/v1/",
    b"/topics/",
    b"/groups/",
    b"/messages/",
    b"/delay/",
    b"/reliability/",
    b"/priority/",
    b"/rebalance/",
    b"/admin/topics/",
)


def goqueue_dialect(engine: Engine, settings: HttpSettings) -> Dialect:
    """Return the GoQueue-compatible REST API of `engine`. Its requests have a limit of their own, off by default (ruling R15)."""
    endpoints = goqueue_endpoints(engine, settings)
    document = OpenApiEndpoint(DOCUMENT_PATH, endpoints, ProblemBody)
    return Dialect(
        prefix=_PREFIXES,
        router=TopicRouter([*endpoints, document.endpoint()]),
        problem=problem_response,
        authenticator=TopicAuthenticator(
            engine.credentials,
            engine.tenant_selection,
            without_credentials=settings.topics_without_credentials,
        ),
        body_bytes_max=limits.TOPIC_BODY_BYTES_MAX,
        is_versioned=False,
        is_https_forced=settings.force_https,
        limiter=None
        if engine.topic_rate_limits is None
        else Limiter(engine.topic_rate_limits, ClientReader(settings.trusted_proxies)),
    )


def goqueue_endpoints(engine: Engine, settings: HttpSettings) -> list[Endpoint]:
    """Return every endpoint of the dialect."""
    return [
        *TopicEndpoints(engine).endpoints(),
        *PublishingEndpoints(engine).endpoints(),
        *ReadingEndpoints(engine).endpoints(),
        *DelayedEndpoints(engine).endpoints(),
        *GroupEndpoints(engine).endpoints(),
        *PollingEndpoints(engine).endpoints(),
        *AcknowledgingEndpoints(engine).endpoints(),
        *PositionEndpoints(engine).endpoints(),
        *StatisticsEndpoints(engine).endpoints(),
        *CooperativeEndpoints(engine).endpoints(),
    ]
