"""Spans from the request through its batch to the statement. Contract: spooled-tenancy 13.5."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc.aio
import httpx2
import pytest
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from millstream.api.http.app import create_http_app
from millstream.api.http.settings import HttpSettings
from millstream.app import build
from millstream.config import Config, Environment
from millstream.config.schema import OtelConfig
from millstream.engine.credentials import KeyMaker
from millstream.engine.engine import Engine, open_engine
from millstream.observe.trace_export import make_resource
from millstream.observe.tracing import open_tracing
from millstream.serving.http import HttpListener
from millstream.serving.sockets import bind, port_of
from millstream.store import installation, tenants
from millstream.store.database import Database
from millstream.store.traced_session import traced_sessions
from tests.conftest import make_principal

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced(Struct):
    """A server whose spans are kept."""

    engine: Engine
    client: httpx2.AsyncClient
    organization_id: str
    exporter: InMemorySpanExporter

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        found = self.spans(name)
        assert len(found) == 1, [span.name for span in self.exporter.get_finished_spans()]
        return found[0]


async def key_of(engine: Engine, tenant_id: int) -> str:
    async with engine.context.database.session() as session:
        pepper = bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))
        key = await KeyMaker(pepper=pepper, hash_cost=4).make()
        await session.run(
            "insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash)"
            " values ($1, $2, 'key', $3, $4, $5)",
            tenant_id,
            uuid4(),
            key.prefix,
            key.digest,
            key.hash,
        )
    return key.secret


@pytest.fixture
async def traced(database_dsn: str) -> AsyncIterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    database = await Database.open(database_dsn, min_size=1, max_size=4, make_session=traced_sessions(tracer))
    engine = await open_engine(database, direct=lambda: installation.direct_session(database_dsn))
    engine.trace(tracer)
    app = create_http_app(
        engine,
        HttpSettings(),
        observe=lambda _method, _path, _status, _seconds: None,
        render_metrics=lambda: b"",
        tracer=tracer,
    )
    sockets = bind("127.0.0.1", 0)
    port = port_of(sockets)
    listener = HttpListener(app, sockets, shutdown_seconds=1)
    await listener.start()
    principal = await make_principal(engine)
    headers = {"authorization": f"Bearer {await key_of(engine, principal.tenant_id)}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", headers=headers) as client:
        # The key is known from here on.
        await client.get("/jobs/stats")
        exporter.clear()
        yield Traced(engine, client, principal.organization_id, exporter)
    await listener.stop()
    await engine.close()
    await database.close()


def trace_id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def span_id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_its_batch_and_its_statement_are_one_trace(traced: Traced) -> None:
    answer = await traced.client.post(
        "/jobs",
        json={"queue_name": "q", "payload": {"card": "payload-of-a-card"}},
        headers={"traceparent": PARENT, "x-request-id": "request-7"},
    )
    request, batch = traced.span("POST /api/v1/jobs"), traced.span("batch create")
    statement = traced.span("sql create_plain_jobs")
    assert request.parent is not None
    assert (trace_id_of(request), request.parent.span_id) == (
        0x0AF7651916CD43DD8448EB211C80319C,
        0xB7AD6B7169203331,
    )
    for child, parent in ((batch, request), (statement, batch)):
        assert child.parent is not None
        assert child.parent.span_id == span_id_of(parent)
        assert trace_id_of(child) == trace_id_of(request)
    assert [link.context.span_id for link in batch.links] == [span_id_of(request)]
    said = attributes_of(request)
    assert said.pop("duration_ms") > 0
    assert said == {
        "http.method": "POST",
        "http.path": "/api/v1/jobs",
        "http.route": "/api/v1/jobs",
        "http.status_code": 201,
        "request_id": "request-7",
        "org_id": traced.organization_id,
        "queue_name": "q",
        "job_id": answer.json()["id"],
    }
    assert not any("payload-of-a-card" in span.to_json() for span in traced.exporter.get_finished_spans())


async def test_a_batch_links_to_every_request_that_it_carries(traced: Traced) -> None:
    async with traced.engine.context.database.transaction() as holder:
        # The first statement is held up; what comes meanwhile is the next one.
        await holder.run("lock table millstream.jobs in share mode")
        asking = [
            asyncio.create_task(
                traced.client.post("/jobs", json={"queue_name": "q", "payload": {}, "priority": number})
            )
            for number in range(6)
        ]
        async with asyncio.timeout(10):
            while traced.engine._batchers[0].waiting_rows < 5:  # noqa: ASYNC110 - polled with a deadline
                await asyncio.sleep(0.001)
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {201}
    requests = {span_id_of(span) for span in traced.spans("POST /api/v1/jobs")}
    assert len(requests) == 6
    batches = traced.spans("batch create")
    assert {link.context.span_id for batch in batches for link in batch.links} == requests
    largest = max(batches, key=lambda batch: len(batch.links))
    assert len(largest.links) == 5
    assert attributes_of(largest) == {"millstream.batch.rows": 5, "millstream.batch.requests": 5}


async def test_a_request_without_a_batch_shows_its_statements(traced: Traced) -> None:
    created = await traced.client.post("/jobs", json={"queue_name": "q", "payload": {}})
    job_id = created.json()["id"]
    traced.exporter.clear()
    answer = await traced.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    request = traced.span("GET /api/v1/jobs/{job_id}")
    assert attributes_of(request)["job_id"] == job_id
    assert attributes_of(request)["request_id"] == answer.headers["x-request-id"]
    assert request.parent is None
    statement = traced.span("sql find_job")
    assert statement.parent is not None
    assert statement.parent.span_id == span_id_of(request)


async def test_the_subject_of_a_request_is_named(traced: Traced) -> None:
    await traced.client.post("/jobs/claim", json={"queue_name": "q", "worker_id": "w"})
    await traced.client.get("/queues/emails/stats")
    await traced.client.post("/workers/w-1/heartbeat", json={})
    claim = attributes_of(traced.span("POST /api/v1/jobs/claim"))
    assert (claim["queue_name"], claim["worker_id"]) == ("q", "w")
    assert attributes_of(traced.span("GET /api/v1/queues/{name}/stats"))["queue_name"] == "emails"
    heartbeats = [s for s in traced.exporter.get_finished_spans() if "heartbeat" in s.name]
    assert [attributes_of(span)["worker_id"] for span in heartbeats] == ["w-1"]


async def test_a_refusal_says_why_and_is_no_error_of_ours(traced: Traced) -> None:
    await traced.client.post("/jobs", json={"queue_name": ""})
    await traced.client.get("/nowhere/at-all?token=eyJhbGciOiJIUzI1NiJ9.e30.abc")
    refused, unknown = traced.exporter.get_finished_spans()
    assert attributes_of(refused)["http.status_code"] in {400, 422}
    assert attributes_of(refused)["error.type"] == "VALIDATION_ERROR"
    assert attributes_of(refused)["error.message"]
    assert attributes_of(unknown)["http.status_code"] == 404
    assert attributes_of(unknown)["http.path"] == "/api/v1/nowhere/at-all"
    assert {span.status.status_code for span in (refused, unknown)} == {StatusCode.UNSET}
    assert "eyJ" not in unknown.to_json()


@pytest.mark.parametrize("given", ["", "nonsense", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_a_broken_traceparent_begins_a_trace_of_its_own(traced: Traced, given: str) -> None:
    answer = await traced.client.get("/jobs/stats", headers={"traceparent": given})
    assert answer.status_code == 200
    assert traced.span("GET /api/v1/jobs/stats").parent is None


async def test_what_nobody_asked_for_is_not_traced(traced: Traced) -> None:
    await traced.engine.upkeep.fold_counters()
    await traced.engine.settling.reap()
    assert traced.exporter.get_finished_spans() == ()


async def test_lines_of_a_request_carry_its_ids(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("millstream.engine.jobs.job_reads.count_jobs", fail)
    answer = await traced.client.get("/jobs/stats", headers={"x-request-id": "request-8"})
    assert answer.status_code == 500
    request = traced.span("GET /api/v1/jobs/stats")
    assert request.status.status_code is StatusCode.ERROR
    said = capsys.readouterr().out
    assert "request-8" in said
    assert f"{trace_id_of(request):032x}" in said


# -------------------------------------------------------------------------------------------------------- settings


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives what a server exports."""

    def __init__(self) -> None:
        self.resources: list[dict[str, str]] = []
        self.names: list[str] = []

    async def Export(  # noqa: N802 - the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for spans in request.resource_spans:
            self.resources.append({item.key: item.value.string_value for item in spans.resource.attributes})
            self.names += [span.name for scope in spans.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


async def ask(app: Any, path: str) -> int:
    """Send one request to an ASGI application; returns the status."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        return (await client.get(path)).status_code


async def test_a_server_exports_what_its_settings_say(database_dsn: str) -> None:
    collector = Collector()
    receiving = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiving)
    port = receiving.add_insecure_port("127.0.0.1:0")
    await receiving.start()
    otel = OtelConfig(
        endpoint=f"http://127.0.0.1:{port}",
        service_name="orders",
        environment="blue",
        resource_attributes=(("team", "jobs"),),
        pod_name="pod-1",
    )
    app = build(Config(otel=otel), database_dsn)
    await app.start(loops=False)
    assert await ask(app.http, "/health/live") == 200
    # What was collected is sent at the end at the latest.
    await app.stop()
    await receiving.stop(None)
    assert collector.names == ["GET /health/live"]
    [resource] = collector.resources
    expected = {
        "service.name": "orders",
        "deployment.environment": "blue",
        "team": "jobs",
        "k8s.pod.name": "pod-1",
    }
    assert expected.items() <= resource.items()
    assert resource["service.version"]


async def test_a_collector_that_is_away_disturbs_nobody(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.observe.trace_export.EXPORT_SECONDS_MAX", 0.2)
    [socket] = bind("127.0.0.1", 0)
    port = port_of([socket])
    socket.close()
    app = build(Config(otel=OtelConfig(endpoint=f"http://127.0.0.1:{port}")), database_dsn)
    await app.start(loops=False)
    assert await ask(app.http, "/health/live") == 200
    await app.stop()


async def test_a_missing_library_is_no_reason_not_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "millstream.observe.trace_export", None)
    assert open_tracing(OtelConfig(endpoint="http://localhost:4317"), Environment.PRODUCTION) is None


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert open_tracing(OtelConfig(service_name="orders"), Environment.PRODUCTION) is None


def test_the_environment_is_the_label_unless_one_is_given() -> None:
    assert make_resource(OtelConfig(), Environment.STAGING).attributes["deployment.environment"] == "staging"
