from datetime import UTC, datetime

import pytest

from millstream import Client, Complete, Conflict, JobStatus, NewJob
from tests.client_sdk.conftest import LiveServer


def test_a_job_goes_from_enqueue_to_result(blocking_client: Client) -> None:
    stored = blocking_client.jobs.enqueue("q", {"a": 1}, run_at=datetime.now(UTC))

    [job] = blocking_client.jobs.claim("q", worker_id="w", wait_seconds=1)
    blocking_client.jobs.complete(job.id, lease_id=job.lease_id, worker_id="w", result=[1])

    finished = blocking_client.jobs.get(stored.id)
    assert (finished.status, finished.result) == (JobStatus.COMPLETED, [1])
    with pytest.raises(Conflict):
        blocking_client.jobs.cancel(stored.id)


def test_many_jobs_are_stored_iterated_and_settled(blocking_client: Client) -> None:
    stored = blocking_client.jobs.enqueue_many("q", (NewJob(n) for n in range(120)))

    assert len({job.id for job in blocking_client.jobs.iterate(queue="q")}) == len(stored.succeeded) == 120
    jobs = blocking_client.jobs.claim("q", worker_id="w", limit=100)
    results = blocking_client.jobs.settle((Complete(job.id, job.lease_id) for job in jobs), worker_id="w")
    assert all(result.success for result in results)
    assert blocking_client.jobs.stats().completed == len(jobs) == 100


def test_queues_workers_and_dead_letters_are_there(blocking_client: Client) -> None:
    assert blocking_client.queues.configure("q", max_retries=1).max_retries == 1
    worker = blocking_client.workers.register("q", hostname="h")
    blocking_client.workers.deregister(worker.id)
    assert len(blocking_client.dead_letters.list()) == 0


def test_the_credentials_of_a_data_directory_connect(server: LiveServer) -> None:
    with Client.from_credentials(server.data_dir) as client:
        assert client.health().is_healthy
        assert client.jobs.stats().total >= 0
