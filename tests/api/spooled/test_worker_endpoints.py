"""Contract: spooled-jobs 2.7, 5; ruling R8."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.spooled.objects import WORKER, conforms
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused, refused_fields


def register(api: Api, **fields: object) -> str:
    body = {"queue_name": "workers", "hostname": "host", **fields}
    return answered(api.post("/workers/register", body), 201)["id"]


def worker(api: Api, worker_id: str) -> dict[str, Any]:
    return conforms(answered(api.get(f"/workers/{worker_id}")), WORKER)


class TestRegister:
    def test_the_answer_tells_how_often_to_report(self, api: Api) -> None:
        queue = a_queue()
        made = answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)
        assert made == {
            "id": made["id"],
            "queue_name": queue,
            "lease_duration_secs": 30,
            "heartbeat_interval_secs": 10,
        }
        assert uuid.UUID(made["id"])

    def test_a_worker_of_defaults_has_every_field(self, api: Api) -> None:
        queue = a_queue()
        found = worker(api, register(api, queue_name=queue))
        expected = {
            "queue_name": queue,
            "queue_names": [queue],
            "hostname": "host",
            "worker_type": None,
            "version": None,
            "max_concurrency": 5,
            "max_concurrent_jobs": 5,
            "current_jobs": 0,
            "current_job_count": 0,
            "status": "healthy",
            "metadata": {},
            "jobs_processed": 0,
            "jobs_failed": 0,
        }
        assert {name: found[name] for name in expected} == expected
        assert found["registered_at"] == found["created_at"]

    def test_what_was_given_is_what_is_stored(self, api: Api) -> None:
        fields = {
            "hostname": "node-1.example_x",
            "worker_type": "python",
            "max_concurrency": 100,
            "metadata": {"zone": ["a", {"b": 1}]},
            "version": "1.2.3",
        }
        found = worker(api, register(api, **fields))
        assert {name: found[name] for name in fields} == fields
        assert found["max_concurrent_jobs"] == 100

    def test_a_known_id_is_the_same_worker_with_new_attributes(self, api: Api) -> None:
        worker_id = f"stable-{uuid.uuid4().hex}"
        assert register(api, worker_id=worker_id, version="1", metadata={"a": 1}) == worker_id
        queue = a_queue()
        api.complete(api.running(queue, worker_id), worker_id)
        answered(api.post(f"/workers/{worker_id}/deregister"), 204)
        before = worker(api, worker_id)
        assert before["status"] == "offline"
        register(api, worker_id=worker_id, version="2", hostname="other", queue_name=queue, max_concurrency=9)
        after = worker(api, worker_id)
        assert (after["status"], after["version"], after["hostname"]) == ("healthy", "2", "other")
        assert (after["queue_name"], after["max_concurrency"]) == (queue, 9)
        assert after["queue_names"] == [queue]
        assert after["registered_at"] == before["registered_at"]
        assert after["last_heartbeat"] > before["last_heartbeat"]
        assert len([row for row in answered(api.get("/workers")) if row["id"] == worker_id]) <= 1

    def test_an_id_of_another_organization_is_a_conflict(self, api: Api, free: Api) -> None:
        worker_id = f"stable-{uuid.uuid4().hex}"
        register(api, worker_id=worker_id)
        body = {"queue_name": "q", "hostname": "h", "worker_id": worker_id}
        refused(free.post("/workers/register", body), 409, "CONFLICT")
        refused(free.get(f"/workers/{worker_id}"), 404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("queue_name", ""),
            ("queue_name", "q" * 101),
            ("queue_name", "a b"),
            ("hostname", ""),
            ("hostname", "h" * 256),
            ("hostname", "two words"),
            ("hostname", ".host"),
            ("hostname", "host."),
            ("hostname", "-host"),
            ("hostname", "host-"),
            ("hostname", "host/x"),
            ("worker_id", ""),
            ("worker_id", "w" * 129),
            ("worker_id", "a/b"),
            ("worker_id", "a b"),
            ("worker_id", "é"),
            ("worker_id", "w\n"),
            ("worker_type", "t" * 51),
            ("version", "v" * 51),
            ("max_concurrency", 0),
            ("max_concurrency", 101),
            ("metadata", {"x": "y" * 65_536}),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_a_broken_rule_is_400(self, api: Api, name: str, value: object) -> None:
        body: dict[str, Any] = {"queue_name": "q", "hostname": "h", name: value}
        assert refused_fields(api.post("/workers/register", body), 400) == {name}

    def test_the_edges_are_in_range(self, api: Api) -> None:
        for fields in (
            {"hostname": "h" * 255},
            {"worker_id": uuid.uuid4().hex * 4},
            {"worker_id": f"A-z_0.9{uuid.uuid4().hex}"},
            {"worker_type": "t" * 50, "version": "v" * 50},
            {"max_concurrency": 1},
            {"metadata": [1]},
        ):
            found = worker(api, register(api, **fields))
            stored = {"worker_id": "id"}
            assert {name: found[stored.get(name, name)] for name in fields} == fields

    def test_ten_at_once_are_ten_workers(self, api: Api) -> None:
        with ThreadPoolExecutor(10) as pool:
            made = list(pool.map(lambda _: register(api), range(10)))
        assert len(set(made)) == 10

    def test_one_id_registered_many_times_at_once_is_one_worker(self, api: Api) -> None:
        worker_id = f"stable-{uuid.uuid4().hex}"
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: register(api, worker_id=worker_id), range(8)))
        assert set(made) == {worker_id}


class TestList:
    def test_the_latest_heartbeat_comes_first_whatever_the_status(self, own: Api) -> None:
        assert answered(own.get("/workers")) == []
        first, second, third = (register(own) for _ in range(3))
        answered(own.post(f"/workers/{first}/heartbeat", {"current_jobs": 0}))
        answered(own.post(f"/workers/{second}/deregister"), 204)
        rows = answered(own.get("/workers"))
        assert rows[0]["id"] == first
        assert {row["id"] for row in rows} == {first, second, third}
        for row in rows:
            assert conforms(row, WORKER) == worker(own, row["id"])


class TestHeartbeat:
    @pytest.mark.parametrize("status", ["healthy", "degraded", "draining", "offline"])
    def test_it_sets_status_and_count(self, api: Api, status: str) -> None:
        worker_id = register(api)
        before = worker(api, worker_id)
        answer = api.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 3, "status": status})
        assert answered(answer) == {"success": True}
        after = worker(api, worker_id)
        assert (after["status"], after["current_jobs"], after["current_job_count"]) == (status, 3, 3)
        assert after["last_heartbeat"] > before["last_heartbeat"]

    @pytest.mark.parametrize("status", ["active", "stopping", "", "HEALTHY", "'; --", None])
    def test_any_other_word_is_healthy(self, api: Api, status: str | None) -> None:
        worker_id = register(api)
        answered(api.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 0, "status": status}))
        assert worker(api, worker_id)["status"] == "healthy"

    def test_it_revives_an_offline_worker(self, api: Api) -> None:
        worker_id = register(api)
        answered(api.post(f"/workers/{worker_id}/deregister"), 204)
        answered(api.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 0}))
        assert worker(api, worker_id)["status"] == "healthy"

    def test_metadata_is_replaced_when_present(self, api: Api) -> None:
        worker_id = register(api, metadata={"a": 1})
        path = f"/workers/{worker_id}/heartbeat"
        answered(api.post(path, {"current_jobs": 0}))
        assert worker(api, worker_id)["metadata"] == {"a": 1}
        answered(api.post(path, {"current_jobs": 0, "metadata": {"b": [2]}}))
        assert worker(api, worker_id)["metadata"] == {"b": [2]}
        too_large = {"current_jobs": 0, "metadata": "m" * 65_536}
        assert refused_fields(api.post(path, too_large), 400) == {"metadata"}

    def test_it_does_not_renew_job_leases(self, api: Api) -> None:
        worker_id = register(api)
        job = api.running(worker=worker_id)
        answered(api.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 1}))
        assert api.job(job["id"])["lease_expires_at"] == job["lease_expires_at"]

    def test_a_missing_mistyped_or_negative_count_is_refused(self, api: Api) -> None:
        path = f"/workers/{register(api)}/heartbeat"
        for body in ({}, {"current_jobs": None}, {"current_jobs": "1"}, {"current_jobs": 1.0}):
            assert refused_fields(api.post(path, body), 422) == {"current_jobs"}
        assert refused_fields(api.post(path, {"current_jobs": -1}), 400) == {"current_jobs"}


@pytest.mark.parametrize(("method", "path"), [("POST", "/workers/{}/deregister"), ("DELETE", "/workers/{}")])
class TestDeregister:
    def test_the_worker_goes_offline_and_stays_readable(self, api: Api, method: str, path: str) -> None:
        worker_id = register(api)
        answered(api.call(method, path.format(worker_id)), 204)
        assert worker(api, worker_id)["status"] == "offline"
        answered(api.call(method, path.format(worker_id)), 204)

    def test_its_jobs_run_on(self, api: Api, method: str, path: str) -> None:
        worker_id = register(api)
        job = api.running(worker=worker_id)
        before = api.job(job["id"])
        answered(api.call(method, path.format(worker_id)), 204)
        assert api.job(job["id"]) == before
        api.complete(job, worker_id)

    def test_an_unknown_worker_is_404(self, api: Api, method: str, path: str) -> None:
        for unknown in (str(uuid.uuid4()), "nobody", "' or 1=1 --"):
            refused(api.call(method, path.format(unknown)), 404, "NOT_FOUND")


@pytest.mark.parametrize("worker_id", ["nobody", UNKNOWN_ID, "w" * 300, "%F0%9F%98%80"])
def test_an_unknown_worker_is_404(api: Api, worker_id: str) -> None:
    refused(api.get(f"/workers/{worker_id}"), 404, "NOT_FOUND")
    refused(api.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 0}), 404, "NOT_FOUND")
