"""Where webhooks may lead, in production and after redirects. Contract: spooled-tenancy 10.8, 19.8 (H1 to H10)."""

import psycopg
import pytest

from tests.api.spooled.test_outgoing_webhooks import PATH, create
from tests.api.spooled.wire import Api, LiveServer, answered, eventually, refused, refused_fields
from tests.cli.server_process import ServerProcess
from tests.domain.test_webhook_url import HOSTS_INSIDE
from tests.receiver import Receiver, listening
from tests.serving.database_of import dsn_of

HOOK = {"name": "hook", "events": ["schedule.triggered"]}
SECURE = {"X-Forwarded-Proto": "https"}


def test_every_address_inside_is_refused_in_production(in_production: Api) -> None:
    texts = [f"{scheme}://{host}/x" for host in HOSTS_INSIDE for scheme in ("https", "http")]
    texts += ["http://example.com/", "http://localhost:8080/", "ftp://example.com/", "file:///etc/passwd"]
    texts += ["gopher://example.com/", "javascript:alert(1)", "https://user@example.com/", "//example.com/"]
    for text in texts:
        body = refused(in_production.post(PATH, {**HOOK, "url": text}), 400, "VALIDATION_ERROR")
        assert body["message"] == "url: Invalid webhook URL", text
        job = {"queue_name": "q", "payload": 1, "completion_webhook": text}
        assert refused_fields(in_production.post("/jobs", job), 400) == {"completion_webhook"}, text
    assert answered(in_production.get(PATH)) == []


@pytest.mark.parametrize("host", ["172.200.0.1", "172.32.255.255", "172.15.255.255"])
def test_public_addresses_beside_private_ones_are_accepted_in_production(
    in_production: Api, host: str
) -> None:
    made = answered(in_production.post(PATH, {**HOOK, "url": f"https://{host}/", "enabled": False}), 201)
    answered(in_production.delete(f"{PATH}/{made['id']}"), 204)


def test_an_address_that_should_never_have_been_stored_is_not_contacted(
    in_production: Api, production: ServerProcess, receiver: Receiver
) -> None:
    made = answered(in_production.post(PATH, {**HOOK, "url": "https://example.com/", "enabled": False}), 201)
    path = f"{PATH}/{made['id']}"
    refused(in_production.put(path, {"url": receiver.url}), 400, "VALIDATION_ERROR")
    with psycopg.connect(dsn_of(production), autocommit=True) as connection:
        connection.execute(
            "update millstream.outgoing_webhooks set url = %s where id = %s", [receiver.url, made["id"]]
        )
    trial = answered(in_production.post(f"{path}/test"))
    assert (trial["success"], trial["status_code"], trial["error"]) == (False, None, "Invalid webhook URL")
    assert receiver.received == []
    answered(in_production.delete(path), 204)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(own: Api, receiver: Receiver, status: int) -> None:
    with listening() as inside:
        receiver.status, receiver.headers = status, {"Location": inside.url}
        made = create(own, receiver.url, "job.created", enabled=False)
        trial = answered(own.post(f"{PATH}/{made['id']}/test"))
        assert (trial["success"], trial["status_code"], trial["error"]) == (False, status, f"HTTP {status}")
        assert len(receiver.received) == 1
        assert inside.received == []


def change(server: LiveServer, statement: str, *values: object) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(statement.encode(), values)


@pytest.mark.parametrize(
    ("status", "expected"), [(200, (0, True, "success")), (500, (20, False, "auto_disabled"))]
)
def test_the_twentieth_failure_in_a_row_switches_a_webhook_off_and_a_success_forgets_them(
    own: Api, server: LiveServer, receiver: Receiver, status: int, expected: tuple[int, bool, str]
) -> None:
    receiver.status = status
    made = create(own, receiver.url, "job.created")
    path = f"{PATH}/{made['id']}"
    change(server, "update millstream.outgoing_webhooks set failure_count = 19 where id = %s", made["id"])
    own.enqueue("q")
    [row] = eventually(
        lambda: answered(own.get(f"{path}/deliveries")), lambda rows: bool(rows and rows[0]["attempts"])
    )
    # What is left of five attempts is the last one, and its time has come.
    change(
        server,
        "update millstream.outgoing_deliveries set attempts = 4, next_attempt_at = now()"
        " where id = %s and status = 1",
        row["id"],
    )
    seen = eventually(
        lambda: answered(own.get(path)), lambda webhook: webhook["failure_count"] != 19, seconds=30
    )
    assert (seen["failure_count"], seen["enabled"], seen["last_status"]) == expected
