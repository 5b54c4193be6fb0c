"""Who may create an organization. Contract: spooled-tenancy 3.1, 17."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.cli.server_process import ServerProcess

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

ADMIN_KEY = "an admin key of the operator"

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def closed() -> Iterator[ServerProcess]:
    """A server whose organizations are made by who has the admin key."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        environment = {"REGISTRATION_MODE": "closed", "ADMIN_API_KEY": ADMIN_KEY}
        running = ServerProcess(directory / "data", directory / "log", environment=environment)
        try:
            yield running.wait_ready()
        finally:
            running.stop()


def _create(server: ServerProcess, headers: dict[str, str | bytes], **fields: object) -> httpx2.Response:
    body = {"name": "Example", "slug": f"org-{uuid4().hex[:20]}", **fields}
    sent = [
        (name.encode(), value.encode() if isinstance(value, str) else value)
        for name, value in headers.items()
    ]
    return httpx2.post(f"{server.url}/api/v1/organizations", json=body, headers=sent)


def _is_refused(response: httpx2.Response) -> bool:
    return (response.status_code, response.json()["code"]) == (403, "ACCESS_DENIED")


def test_the_admin_key_opens_closed_registration(closed: ServerProcess) -> None:
    response = _create(closed, {"X-Admin-Key": ADMIN_KEY})

    assert response.status_code == 201
    key = response.json()["api_key"]["key"]
    stats = httpx2.get(f"{closed.url}/api/v1/jobs/stats", headers={"authorization": f"Bearer {key}"})
    assert stats.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Admin-Key": ""},
        {"X-Admin-Key": "wrong"},
        {"X-Admin-Key": ADMIN_KEY[:-1]},
        {"X-Admin-Key": ADMIN_KEY + "x"},
        {"X-Admin-Key": ADMIN_KEY.upper()},
        {"X-Admin-Key": b"\xff\xfe"},
        {"X-API-Key": ADMIN_KEY},
        {"Authorization": f"Bearer {ADMIN_KEY}"},
    ],
    ids=repr,
)
def test_nothing_but_the_admin_key_opens_closed_registration(
    closed: ServerProcess, headers: dict[str, str | bytes]
) -> None:
    assert _is_refused(_create(closed, headers))


def test_an_api_key_does_not_open_closed_registration(closed: ServerProcess) -> None:
    assert _is_refused(_create(closed, {**closed.headers}))


def test_a_refused_registration_does_not_take_the_slug(closed: ServerProcess) -> None:
    slug = f"org-{uuid4().hex[:20]}"

    assert _is_refused(_create(closed, {}, slug=slug))
    assert _create(closed, {"X-Admin-Key": ADMIN_KEY}, slug=slug).status_code == 201


def test_a_stranger_does_not_learn_which_slugs_are_taken(closed: ServerProcess) -> None:
    assert _is_refused(_create(closed, {}, slug="default"))
    assert _create(closed, {"X-Admin-Key": ADMIN_KEY}, slug="default").status_code == 409


@pytest.mark.slow
def test_closed_registration_without_a_configured_key_refuses_everybody(start: Start) -> None:
    server = start(environment={"REGISTRATION_MODE": "closed", "ADMIN_API_KEY": ""})

    for headers in ({}, {"X-Admin-Key": ""}, {"X-Admin-Key": "None"}, {"X-Admin-Key": ADMIN_KEY}):
        assert _is_refused(_create(server, {**headers}))


@pytest.mark.slow
def test_registration_by_invitation_refuses_everybody(start: Start) -> None:
    server = start(environment={"REGISTRATION_MODE": "invite", "ADMIN_API_KEY": ADMIN_KEY})

    assert _is_refused(_create(server, {}))
    assert _is_refused(_create(server, {"X-Admin-Key": ADMIN_KEY}))


@pytest.mark.slow
def test_open_registration_ignores_the_admin_key(start: Start) -> None:
    server = start(environment={"REGISTRATION_MODE": "open", "ADMIN_API_KEY": ADMIN_KEY})

    for headers in ({}, {"X-Admin-Key": ADMIN_KEY}, {"X-Admin-Key": "wrong"}):
        assert _create(server, {**headers}).status_code == 201
