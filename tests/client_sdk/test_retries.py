import pytest

from millstream import (
    ApiError,
    AsyncClient,
    Conflict,
    ConnectionFailed,
    InvalidResponse,
    NewJob,
    QuotaExceeded,
    RateLimited,
    Retries,
    Unavailable,
)
from tests.client_sdk.scripted_server import Answer, ScriptedServer

CREATED = Answer(201, b'{"id":"j-1","created":true}')
UNAVAILABLE = Answer(503, b'{"code":"SERVICE_UNAVAILABLE","message":"try again"}', {"Retry-After": "0"})
LIMITED = Answer(429, b'{"code":"RATE_LIMIT_EXCEEDED","message":"slow down"}', {"Retry-After": "0"})
QUOTA = Answer(429, b'{"code":"QUOTA_EXCEEDED","message":"queues limit reached (2/2)"}')
HUNG_UP = Answer(None)
STATS = Answer(
    200,
    b'{"pending":1,"scheduled":0,"processing":0,"completed":0,"failed":0,"deadletter":2,"cancelled":0,"total":3}',
)
COMPLETED = Answer(409, b'{"code":"CONFLICT","message":"Job is already completed"}')
EXPIRED = Answer(409, b'{"code":"LEASE_EXPIRED","message":"The lease is not current"}')


@pytest.mark.parametrize("trouble", [UNAVAILABLE, LIMITED, HUNG_UP])
async def test_a_read_is_repeated(
    scripted_client: AsyncClient, scripted_server: ScriptedServer, trouble: Answer
) -> None:
    scripted_server.answers = [trouble, trouble, STATS]

    stats = await scripted_client.jobs.stats()

    assert (stats.pending, stats.dead_letter, stats.total) == (1, 2, 3)
    assert [line for line, _ in scripted_server.requests] == ["GET /api/v1/jobs/stats"] * 3


async def test_the_last_failure_is_raised(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [UNAVAILABLE]

    with pytest.raises(Unavailable) as caught:
        await scripted_client.jobs.stats()

    assert caught.value.attempt == 3
    assert len(scripted_server.requests) == 3


@pytest.mark.parametrize(("trouble", "kind"), [(UNAVAILABLE, Unavailable), (HUNG_UP, ConnectionFailed)])
async def test_an_enqueue_whose_outcome_is_unknown_is_not_repeated(
    scripted_client: AsyncClient,
    scripted_server: ScriptedServer,
    trouble: Answer,
    kind: type[Exception],
) -> None:
    scripted_server.answers = [trouble, CREATED]

    with pytest.raises(kind):
        await scripted_client.jobs.enqueue("q", 1)

    assert len(scripted_server.requests) == 1


@pytest.mark.parametrize("trouble", [UNAVAILABLE, LIMITED, HUNG_UP])
async def test_an_enqueue_with_an_idempotency_key_is_repeated(
    scripted_client: AsyncClient, scripted_server: ScriptedServer, trouble: Answer
) -> None:
    scripted_server.answers = [trouble, CREATED]

    assert (await scripted_client.jobs.enqueue("q", 1, idempotency_key="k")).id == "j-1"

    first, second = scripted_server.requests
    assert first == second


async def test_a_rate_limited_call_is_repeated_whatever_it_does(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [LIMITED, CREATED]

    assert (await scripted_client.jobs.enqueue("q", 1)).created


@pytest.mark.parametrize(
    ("answer", "kind"), [(QUOTA, QuotaExceeded), (COMPLETED, Conflict), (Answer(500), ApiError)]
)
async def test_a_lasting_refusal_is_not_repeated(
    scripted_client: AsyncClient, scripted_server: ScriptedServer, answer: Answer, kind: type[Exception]
) -> None:
    scripted_server.answers = [answer]

    with pytest.raises(kind):
        await scripted_client.jobs.stats()

    assert len(scripted_server.requests) == 1


async def test_retries_can_be_switched_off(scripted_server: ScriptedServer) -> None:

    scripted_server.answers = [LIMITED]
    async with AsyncClient(scripted_server.url, retries=Retries(attempts=1)) as client:
        with pytest.raises(RateLimited):
            await client.jobs.stats()

    assert len(scripted_server.requests) == 1


async def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    async with ScriptedServer() as server:
        url = server.url
    async with AsyncClient(url, retries=None, timeout_seconds=5) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.health()

    assert caught.value.sent is False


def test_what_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no URL"):
        AsyncClient("http://127.0.0.1:port")


async def test_an_answer_of_another_shape_is_reported(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [Answer(200, b'{"pending":"many"}')]

    with pytest.raises(InvalidResponse, match="/api/v1/jobs/stats"):
        await scripted_client.jobs.stats()


async def test_the_echo_of_a_completion_whose_answer_was_lost_is_success(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [HUNG_UP, COMPLETED]

    await scripted_client.jobs.complete("j-1", lease_id="l", worker_id="w")

    assert len(scripted_server.requests) == 2


async def test_a_completion_refused_at_the_first_try_is_raised(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [COMPLETED]

    with pytest.raises(Conflict, match="already completed"):
        await scripted_client.jobs.complete("j-1", lease_id="l", worker_id="w")


async def test_the_echo_of_a_failure_whose_answer_was_lost_is_success(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers = [HUNG_UP, EXPIRED]

    await scripted_client.jobs.fail("j-1", lease_id="l", worker_id="w", error="no")

    assert len(scripted_server.requests) == 2


async def test_an_error_in_mid_input_tells_how_far_it_got(
    scripted_client: AsyncClient, scripted_server: ScriptedServer
) -> None:

    rows = ",".join(f'{{"index":{n},"job_id":"j-{n}","created":true}}' for n in range(100))
    stored = Answer(200, f'{{"succeeded":[{rows}],"failed":[],"total":100}}'.encode())
    scripted_server.answers = [stored, QUOTA]

    with pytest.raises(QuotaExceeded) as caught:
        await scripted_client.jobs.enqueue_many("q", (NewJob(n) for n in range(150)))

    assert caught.value.__notes__ == ["100 items before these were answered, 100 of them stored"]
