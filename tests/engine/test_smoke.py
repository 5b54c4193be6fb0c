from millstream.domain.job import ClaimRequest, Completion, JobState, Lease, NewJob
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine


async def test_a_job_goes_from_enqueue_to_done(engine: Engine, principal: Principal) -> None:
    enqueued = await engine.jobs.enqueue(principal, NewJob(queue="q", payload="{}"))
    [claimed] = await engine.jobs.claim(principal, ClaimRequest(queue="q", worker_id="w"))
    await engine.jobs.complete(
        principal, Completion(lease=Lease(job_id=claimed.id, worker_id="w", lease_id=claimed.lease_id), result="1")
    )
    job = await engine.jobs.get(principal, enqueued.id)
    assert job.state is JobState.COMPLETED
    assert job.result == "1"
