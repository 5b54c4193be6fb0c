"""The HTTP edge, put together: one ASGI callable for every dialect on the main port."""

from collections.abc import Callable, Sequence

from opentelemetry.trace import Tracer

from millstream.api.goqueue.rest import goqueue_dialect
from millstream.api.http.auth import BearerAuthenticator
from millstream.api.http.dispatcher import Dialect, Dispatcher, Observe
from millstream.api.http.health import HealthEndpoints
from millstream.api.http.router import Router
from millstream.api.http.settings import HttpSettings
from millstream.api.http.traced_dispatcher import TracedDispatcher
from millstream.api.spooled.problems import problem_response
from millstream.api.spooled.rest import spooled_dialect
from millstream.engine.engine import Engine


def create_http_app(
    engine: Engine,
    settings: HttpSettings,
    *,
    observe: Observe,
    render_metrics: Callable[[], bytes],
    dialects: Sequence[Dialect] = (),
    tracer: Tracer | None = None,
) -> Dispatcher:
    """Return the ASGI callable of the main port.

    `observe` is told of every answer: method, path template (empty: no such path), status, seconds.
    `dialects` are served beside ours. With a `tracer`, requests are spans. Run it with uvicorn's `server_header` off.
    """
    health = HealthEndpoints(
        engine.health.database_answers, engine.health.cache_answers, render_metrics, settings
    )
    root = Dialect(
        prefix=b"/",
        router=Router(health.endpoints()),
        problem=problem_response,
        authenticator=BearerAuthenticator(engine.credentials),
        body_bytes_max=settings.body_bytes_max,
        is_versioned=False,
    )
    served = [spooled_dialect(engine, settings), goqueue_dialect(engine, settings), *dialects, root]
    if tracer is not None:
        return TracedDispatcher(served, settings, observe, tracer)
    return Dispatcher(served, settings, observe)
