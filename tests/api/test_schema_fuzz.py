"""Whatever the published document permits, and what it does not: answers are documented ones, of their schema."""

from collections.abc import Callable

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.live_tenants import LiveTenant

EXAMPLES_MAX = 25
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
WORKER = "fuzz"
QUEUE = "fuzz"
TOPIC = "fuzz"
GROUP = "fuzz"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def known(tenant: LiveTenant) -> dict[str, list[str]]:
    """Values of path parameters that exist, by name: jobs that wait, run, are dead and are done."""
    with httpx2.Client(base_url=f"{tenant.url}/api/v1", headers=_headers(tenant)) as client:
        jobs = [
            client.post("/jobs", json={"queue_name": QUEUE, "payload": {"n": n}, "max_retries": 0}).json()[
                "id"
            ]
            for n in range(6)
        ]
        claimed = client.post(
            "/jobs/claim", json={"queue_name": QUEUE, "worker_id": WORKER, "limit": 3}
        ).json()
        done, dead, _ = (job["id"] for job in claimed["jobs"])
        client.post(f"/jobs/{done}/complete", json={"worker_id": WORKER, "result": {"a": [1]}})
        client.post(f"/jobs/{dead}/fail", json={"worker_id": WORKER, "error": "no luck"})
        client.put(f"/queues/{QUEUE}/config", json={"max_retries": 1})
        planned = {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": QUEUE, "payload_template": 1}
        schedules = [client.post("/schedules", json=planned).json()["id"] for _ in range(3)]
        step = {"queue_name": QUEUE, "payload": {}, "max_retries": 0}
        workflow = client.post(
            "/workflows",
            json={"name": "w", "jobs": [{**step, "key": "a"}, {**step, "key": "b", "depends_on": ["a"]}]},
        ).json()
        worker = client.post("/workers/register", json={"queue_name": QUEUE, "hostname": "h"}).json()["id"]
    with httpx2.Client(base_url=tenant.url, headers=_headers(tenant)) as client:
        client.post("/topics", json={"name": TOPIC, "num_partitions": 2})
        client.post(
            f"/topics/{TOPIC}/messages", json={"messages": [{"value": "x"}, {"value": "y", "delay": "1h"}]}
        )
        client.post(f"/groups/{GROUP}/join", json={"client_id": "w", "topics": [TOPIC]})
    jobs += [job["job_id"] for job in workflow["job_ids"]]
    found = {"topic": [TOPIC], "group": [GROUP], "partition": ["0", "1"], "offset": ["0", "1"]}
    found["workflow_id"] = [workflow["id"]]
    return {
        **found,
        "job_id": jobs,
        "id": jobs,
        "name": [QUEUE],
        "queue_name": [QUEUE],
        "worker_id": [worker],
        "schedule_id": schedules,
    }


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/openapi.json"], ids=["jobs", "topics"])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_every_operation_answers_as_documented(
    tenant: LiveTenant,
    known: dict[str, list[str]],
    mode: GenerationMode,
    path: str,
    subtests: pytest.Subtests,
) -> None:
    document = httpx2.get(f"{tenant.url}{path}").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=tenant.url)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == sum(len(item) for item in document["paths"].values())
    if mode is GenerationMode.NEGATIVE:
        # There is no invalid request for an operation that takes nothing.
        operations = [operation for operation in operations if _takes_something(operation)]
    for operation in operations:
        with subtests.test(operation.label):
            _fuzz(operation, mode, tenant, known)


def _takes_something(operation: APIOperation) -> bool:
    # Any text is a slug that may be asked about.
    paths = [parameter for parameter in operation.path_parameters if parameter.name != "slug"]
    return bool(operation.query or paths or operation.body)


def _fuzz(
    operation: APIOperation, mode: GenerationMode, tenant: LiveTenant, known: dict[str, list[str]]
) -> None:
    strategy: Callable[..., st.SearchStrategy[schemathesis.Case]] = operation.as_strategy

    @settings(
        max_examples=EXAMPLES_MAX,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=strategy(generation_mode=mode), pick=st.integers(0, 9))
    def ask(case: schemathesis.Case, pick: int) -> None:
        # Most paths with parameters lead nowhere unless they name what exists.
        for name in case.path_parameters or {}:
            if pick < 8 and name in known:
                case.path_parameters[name] = known[name][pick % len(known[name])]
        case.call_and_validate(headers=_headers(tenant), checks=CHECKS, timeout=40)

    ask()


def _headers(tenant: LiveTenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.api_key}"}
