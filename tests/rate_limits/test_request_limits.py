"""Requests a second and a minute. Contract: spooled-tenancy 8.1, 8.2, 19.7 (G10 to G12)."""

import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.cli.server_process import ServerProcess
from tests.rate_limits.keys import add_key
from tests.rate_limits.servers import ADDRESS_BURST, calling, is_limited, make_tenant, rate

FREE_BURST = 10
NAMES = ("limit", "remaining", "reset", "scope")


@pytest.fixture
def stranger(limited: ServerProcess) -> Iterator[httpx2.Client]:
    """A caller without a credential."""
    with calling(limited.url) as client:
        yield client


@pytest.fixture
def free(limited: ServerProcess) -> Iterator[httpx2.Client]:
    """A caller of a fresh organization: ten requests at once, five a second."""
    with calling(limited.url, make_tenant(limited).api_key) as client:
        yield client


def burst(client: httpx2.Client, path: str = "/jobs/stats", most: int = 60) -> list[httpx2.Response]:
    """What comes back until a request is refused."""
    answers = []
    for _ in range(most):
        answers.append(client.get(path))
        if answers[-1].status_code == 429:
            break
    return answers


def test_an_organization_has_the_burst_of_its_plan(free: httpx2.Client) -> None:
    before = int(time.time())
    first = free.get("/jobs/stats")
    assert (first.status_code, rate(first)) == (200, (FREE_BURST, FREE_BURST - 1, "organization"))
    assert before <= int(first.headers["x-ratelimit-reset"]) <= int(time.time()) + 2
    assert "retry-after" not in first.headers

    *admitted, last = burst(free)
    assert len(admitted) >= FREE_BURST - 2
    assert {answer.status_code for answer in admitted} == {200}
    assert is_limited(last)
    assert last.headers["retry-after"] == "1"


def test_writes_count_like_reads_and_a_refused_one_does_nothing(free: httpx2.Client) -> None:
    made = 0
    while (answer := free.post("/jobs", json={"queue_name": "q", "payload": 1})).status_code == 201:
        # The plan's ten active jobs are another matter.
        free.delete(f"/jobs/{answer.json()['id']}")
        made += 1
    assert is_limited(answer)
    total = 0
    while (listed := free.get("/jobs")).status_code == 429:
        assert is_limited(listed)
        total += 1
        assert total < 10_000
    assert len(listed.json()) == made


@pytest.mark.parametrize("headers", [{}, {"x-admin-key": "wrong"}], ids=["no key", "a wrong key"])
def test_the_admin_key_is_asked_for_where_requests_are_counted(
    stranger: httpx2.Client, headers: dict[str, str]
) -> None:
    for path in ("/admin/stats", "/admin/organizations", "/admin/plans"):
        assert stranger.get(path, headers=headers).status_code == 401


def test_what_is_left_comes_back_with_time(free: httpx2.Client) -> None:
    burst(free)
    deadline = time.monotonic() + 20
    while (answer := free.get("/jobs/stats")).status_code == 429:
        assert time.monotonic() < deadline
    assert rate(answer) == (FREE_BURST, 0, "organization")


def test_another_organization_at_the_same_address_is_not_affected(limited: ServerProcess) -> None:
    one, other = make_tenant(limited), make_tenant(limited)
    with calling(limited.url) as client:
        for tenant, already in ((one, False), (other, True)):
            client.headers["authorization"] = f"Bearer {tenant.api_key}"
            first = client.get("/jobs/stats")
            assert rate(first) == (FREE_BURST, FREE_BURST - 1, "organization"), already
            assert is_limited(burst(client)[-1])


def test_a_larger_plan_has_a_larger_burst(limited: ServerProcess) -> None:
    for plan_tier, size in (("starter", 50), ("pro", 200), ("enterprise", 1000)):
        tenant = make_tenant(limited, plan_tier=plan_tier)
        with calling(limited.url, tenant.api_key) as client:
            assert rate(client.get("/jobs/stats")) == (size, size - 1, "organization")


class TestKeys:
    def test_a_key_of_its_own_limit_decides_when_it_is_tighter(self, limited: ServerProcess) -> None:
        tenant = make_tenant(limited, plan_tier="enterprise", rate_limit=3)
        with calling(limited.url, tenant.api_key) as client:
            assert [rate(client.get("/jobs/stats")) for _ in range(3)] == [
                (3, left, "api_key") for left in (2, 1, 0)
            ]
            refused = client.get("/jobs/stats")
            assert is_limited(refused)
            assert rate(refused) == (3, 0, "api_key")
            # Three a minute are one in twenty seconds.
            assert 15 <= int(refused.headers["retry-after"]) <= 20
            assert int(refused.headers["x-ratelimit-reset"]) - time.time() > 50

    def test_the_plan_decides_when_it_is_tighter(self, limited: ServerProcess) -> None:
        tenant = make_tenant(limited, rate_limit=600)
        with calling(limited.url, tenant.api_key) as client:
            assert rate(client.get("/jobs/stats")) == (FREE_BURST, FREE_BURST - 1, "organization")
            assert rate(burst(client)[-1]) == (FREE_BURST, 0, "organization")

    def test_requests_that_the_key_refuses_cost_the_organization_nothing(
        self, limited: ServerProcess
    ) -> None:
        tenant = make_tenant(limited, plan_tier="starter", rate_limit=1)
        with calling(limited.url, tenant.api_key) as client:
            client.get("/jobs/stats")
            assert [is_limited(client.get("/jobs/stats")) for _ in range(80)] == [True] * 80
        other_key = add_key(limited, tenant)
        with calling(limited.url, other_key) as client:
            limit, remaining, scope = rate(client.get("/jobs/stats"))
            assert (limit, scope) == (50, "organization")
            assert remaining >= 48


class TestAddresses:
    def test_requests_without_a_credential_are_counted_for_the_address(self, stranger: httpx2.Client) -> None:
        first = stranger.get("/openapi.json")
        assert (first.status_code, rate(first)) == (200, (ADDRESS_BURST, ADDRESS_BURST - 1, "ip"))
        *admitted, last = burst(stranger, "/openapi.json")
        assert len(admitted) >= ADDRESS_BURST - 1
        assert is_limited(last)
        assert rate(last) == (ADDRESS_BURST, 0, "ip")

    def test_invented_keys_and_agents_are_one_address(self, stranger: httpx2.Client) -> None:
        statuses = []
        for number in range(ADDRESS_BURST + 5):
            headers = {
                "authorization": f"Bearer sk_live_{number:043}",
                "user-agent": f"agent/{number}",
                "x-api-key": f"sk_live_{number}",
                "x-forwarded-for": f"198.51.100.{number}",
                "forwarded": f"for=198.51.100.{number}",
                "x-real-ip": f"198.51.100.{number}",
            }
            answer = stranger.get("/jobs/stats", headers=headers)
            assert rate(answer)[2] == "ip"
            statuses.append(answer.status_code)
        assert statuses[: ADDRESS_BURST - 1] == [401] * (ADDRESS_BURST - 1)
        assert 429 in statuses[ADDRESS_BURST:]

    def test_no_credential_at_all_counts_too(self, stranger: httpx2.Client) -> None:
        answers = burst(stranger)
        assert {answer.status_code for answer in answers[:-1]} == {401}
        assert is_limited(answers[-1])

    def test_a_valid_key_is_not_charged_to_its_address(self, limited: ServerProcess) -> None:
        with calling(limited.url) as client:
            client.get("/openapi.json")
            for _ in range(ADDRESS_BURST + 5):
                tenant = make_tenant(limited)
                answer = client.get("/jobs/stats", headers={"authorization": f"Bearer {tenant.api_key}"})
                assert answer.status_code == 200
            assert rate(client.get("/openapi.json"))[1] >= ADDRESS_BURST - 2

    def test_a_key_in_use_works_while_its_address_is_exhausted(self, limited: ServerProcess) -> None:
        tenant = make_tenant(limited, plan_tier="enterprise")
        own = {"authorization": f"Bearer {tenant.api_key}"}
        with calling(limited.url) as client:
            assert client.get("/jobs/stats", headers=own).status_code == 200
            burst(client, "/nothing", most=ADDRESS_BURST + 5)
            assert client.get("/jobs/stats", headers=own).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "headers", "status"),
        [
            ("GET", "/nothing", {}, 404),
            ("PATCH", "/jobs", {}, 405),
            ("GET", "/jobs/stats", {"x-api-version": "2"}, 400),
            ("POST", "/jobs", {"content-length": str(6 * 1024 * 1024)}, 413),
            ("GET", "/openapi.json", {}, 200),
        ],
    )
    def test_every_answer_tells_the_limit(
        self, stranger: httpx2.Client, method: str, path: str, headers: dict[str, str], status: int
    ) -> None:
        content = b"x" * int(headers.get("content-length", 0)) or None
        answer = stranger.request(method, path, headers=headers, content=content)
        assert answer.status_code == status
        assert rate(answer) == (ADDRESS_BURST, ADDRESS_BURST - 1, "ip")
        assert int(answer.headers["x-ratelimit-reset"]) >= int(time.time())

    def test_a_preflight_is_answered_however_much_was_sent(self, stranger: httpx2.Client) -> None:
        burst(stranger, "/openapi.json")
        asked = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
        for _ in range(3):
            answer = stranger.options("/jobs", headers=asked)
            assert answer.status_code == 204
            assert rate(answer)[2] == "ip"

    def test_health_and_metrics_are_not_limited(
        self, limited: ServerProcess, stranger: httpx2.Client
    ) -> None:
        burst(stranger, "/openapi.json")
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            for _ in range(3):
                assert stranger.get(limited.url + path).status_code == 200
        assert is_limited(stranger.get("/openapi.json"))


def test_answers_after_the_credential_tell_the_limit_too(free: httpx2.Client) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    answers = [
        free.get(f"/jobs/{unknown}"),
        free.post("/jobs", content=b"{", headers={"content-type": "application/json"}),
        free.post("/jobs", json={}),
        free.get("/jobs?limit=x"),
        free.delete("/queues/none"),
    ]
    assert [answer.status_code for answer in answers] == [404, 400, 422, 400, 404]
    assert [rate(answer)[2] for answer in answers] == ["organization"] * 5
    assert all(f"x-ratelimit-{name}" in answer.headers for answer in answers for name in NAMES)


def test_refusals_are_documented_on_every_route(stranger: httpx2.Client) -> None:
    document = stranger.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert operations
    assert all("RATE_LIMIT_EXCEEDED" in one["responses"]["429"]["description"] for one in operations)
