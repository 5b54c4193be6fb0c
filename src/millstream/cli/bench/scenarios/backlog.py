"""`jobs-backlog`: the claim rate with millions of jobs in the table, against that of a table without them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from millstream.cli.bench.conversation import CreateJobsInBulk, DrainJobs
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.plan import HttpLoad
from millstream.cli.bench.postgres import Postgres
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import measure_conversation, new_queue

_CHUNK = 50_000
# More than can be claimed and completed over HTTP in a second, so that the plain table lasts the whole phase.
_PLAIN_PER_SECOND = 15_000


@dataclass(frozen=True)
class _Backlog:
    ready: int
    scheduled: int
    retrying: int

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Pairs of the stored state and a count of at most `_CHUNK`."""
        for state, count in ((1, self.ready), (2, self.scheduled), (3, self.retrying)):
            for start in range(0, count, _CHUNK):
                yield state, min(_CHUNK, count - start)


_FULL = _Backlog(ready=1_000_000, scheduled=1_000_000, retrying=200_000)
_SMOKE = _Backlog(ready=5_000, scheduled=5_000, retrying=1_000)


async def measure_backlog(run: Run) -> Measurement:
    """Claim ten and complete each, first with nothing else in the table, then with the backlog.

    The backlog goes into the queue that is claimed from, by SQL: over HTTP it would take minutes.
    """
    postgres = run.require_server().postgres
    assert postgres is not None, "the scenario's `needs` asks for the database"
    backlog = _SMOKE if run.settings.smoke else _FULL
    plain = _Backlog(ready=int(_PLAIN_PER_SECOND * run.settings.seconds), scheduled=0, retrying=0)

    queue = await _fill(run, postgres, plain, "plain table")
    baseline = await measure_conversation(run, DrainJobs(queue), "measuring, plain table")
    await postgres.run_file("backlog_clear.sql", queue=queue)

    queue = await _fill(run, postgres, backlog, "backlog")
    measured = await measure_conversation(run, DrainJobs(queue), "measuring, backlog")
    await postgres.run_file("backlog_clear.sql", queue=queue)
    return replace(
        measured,
        baseline_per_second=baseline.rate_per_second,
        errors=measured.errors + baseline.errors,
        error_examples=measured.error_examples + baseline.error_examples,
        parameters=measured.parameters
        | {"ready": backlog.ready, "scheduled": backlog.scheduled, "retrying": backlog.retrying},
    )


async def _fill(run: Run, postgres: Postgres, backlog: _Backlog, step: str) -> str:
    queue = new_queue("backlog")
    await _introduce(run, queue)
    chunks = list(backlog.chunks())
    for done, (state, count) in enumerate(chunks, start=1):
        await postgres.run_file("backlog_insert.sql", queue=queue, state=state, count=count)
        run.on_progress(f"filling, {step}", done / len(chunks), "")
    await postgres.run_file("backlog_settle.sql")
    return queue


async def _introduce(run: Run, queue: str) -> None:
    """Enqueue a first job the ordinary way: the server gets to know the queue, the script its tenant."""
    host, port, api_key = run.require_server().endpoint
    one = CreateJobsInBulk(queue, per_request=1, requests=1)
    async with start_generators([HttpLoad(host, port, api_key, 1, one)]) as generators:
        await generators.run(run.settings.seconds)
