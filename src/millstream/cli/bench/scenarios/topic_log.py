"""Topics over HTTP: publishing in bulk and one by one, reading without a group."""

import msgspec

from millstream.cli.bench.http_request import RequestBuilder
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.log_plans import ConsumeMessages, PublishMessages
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import http_plans, measure_conversation, new_queue
from millstream.cli.bench.server import ServerFailed, ask

PARTITIONS = 6
MESSAGES_PER_REQUEST = 1_000
_FILL_REQUESTS = 40
_FILL_SECONDS_MAX = 120.0


async def measure_publish(run: Run) -> Measurement:
    """Publishes of a thousand keyed messages a request."""
    topic = await new_topic(run)
    return await measure_conversation(run, PublishMessages(topic, MESSAGES_PER_REQUEST))


async def measure_publish_single(run: Run) -> Measurement:
    """Publishes of one keyed message a request."""
    topic = await new_topic(run)
    return await measure_conversation(run, PublishMessages(topic, 1))


async def measure_consume(run: Run) -> Measurement:
    """Reads of a topic that was filled before, a thousand messages a page."""
    server, settings = run.require_server(), run.settings
    topic = await new_topic(run)
    fill = PublishMessages(topic, MESSAGES_PER_REQUEST, 1 if settings.smoke else _FILL_REQUESTS)
    async with start_generators(http_plans(server, settings, fill)) as generators:
        await generators.run(_FILL_SECONDS_MAX)
    return await measure_conversation(run, ConsumeMessages(topic, PARTITIONS, MESSAGES_PER_REQUEST))


async def new_topic(run: Run, partitions: int = PARTITIONS) -> str:
    """Create a topic that no run before this one has used; returns its name."""
    endpoint = run.require_server().endpoint
    name = new_queue("topic")
    body = msgspec.json.encode({"name": name, "num_partitions": partitions})
    answer = await ask(endpoint, RequestBuilder(endpoint).post("/topics", body))
    if answer.status != 201:
        raise ServerFailed(f"the topic was not created: {answer.status} {answer.body[:300]!r}")
    return name
