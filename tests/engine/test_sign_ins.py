"""Sign-in by e-mail, with a mail server. Contract: spooled-tenancy 5.7."""

import asyncio
import re
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any, cast

import httpx2
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from millstream.api.http.app import create_http_app
from millstream.api.http.settings import HttpSettings
from millstream.domain.clock import SteeredClock
from millstream.domain.errors import AuthenticationFailed
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.engine.sign_ins import SignInSettings
from millstream.outbound.mail import Mailer, MailNotSent
from millstream.store import installation
from millstream.store.database import Database


class Sink:
    """A mailbox for everybody."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(BytesParser(policy=default).parsebytes(content))
        return "250 taken"


@pytest.fixture
async def sink() -> AsyncIterator[tuple[Sink, str]]:
    """A mail server on a port of its own."""
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(sink, hostname="sink", loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield sink, f"smtp://127.0.0.1:{port}"
    server.close()
    await server.wait_closed()


class Office:
    """The API of an engine that sends mail, and what arrived of it."""

    def __init__(self, engine: Engine, sink: Sink, http: httpx2.AsyncClient) -> None:
        self.engine = engine
        self.sink = sink
        self.http = http

    async def post(self, path: str, **body: object) -> httpx2.Response:
        return await self.http.post(f"/api/v1/auth/{path}", json=body)

    async def code(self, email: str) -> str:
        """Ask for a code, and return the one that arrives."""
        count = len(self.sink.mails)
        assert (await self.post("email/start", email=email)).status_code == 200
        await self.mailed()
        assert len(self.sink.mails) == count + 1
        mail = self.sink.mails[-1]
        assert mail["To"] == email.lower()
        (code,) = re.findall(r"\b\d{6}\b", mail.get_content())
        return code

    async def mailed(self) -> None:
        assert self.engine.sign_ins is not None
        await self.engine.sign_ins.close()

    async def make_organization(self, email: str, slug: str = "acme") -> str:
        tenant, _ = await self.engine.tenants.create(
            name=slug.title(), slug=slug, billing_email=email, plan_tier="free"
        )
        return tenant.public_id


async def open_office(
    database: Database, dsn: str, clock: SteeredClock, sink: tuple[Sink, str], *, may_sign_up: bool
) -> AsyncIterator[Office]:
    settings = SignInSettings(smtp_url=sink[1], sender="jobs@example.com", may_sign_up=may_sign_up)
    engine = await open_engine(
        database,
        EngineSettings(sign_in=settings, key_hash_cost=4),
        direct=lambda: installation.direct_session(dsn),
        clock=clock,
    )
    app = create_http_app(engine, HttpSettings(), observe=lambda *_: None, render_metrics=lambda: b"")
    transport = httpx2.ASGITransport(app=cast("Any", app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://office") as http:
        yield Office(engine, sink[0], http)
    await engine.close()


@pytest.fixture
async def office(
    database: Database, database_dsn: str, clock: SteeredClock, sink: tuple[Sink, str]
) -> AsyncIterator[Office]:
    """Anybody may sign up."""
    async for office in open_office(database, database_dsn, clock, sink, may_sign_up=True):
        yield office


@pytest.fixture
async def closed_office(
    database: Database, database_dsn: str, clock: SteeredClock, sink: tuple[Sink, str]
) -> AsyncIterator[Office]:
    """Nobody may sign up."""
    async for office in open_office(database, database_dsn, clock, sink, may_sign_up=False):
        yield office


async def test_a_code_signs_in_to_the_organization_of_its_address(office: Office) -> None:
    organization_id = await office.make_organization("Ann@Example.com")
    await office.make_organization("bob@example.com", "other")
    code = await office.code("ANN@example.com")
    assert office.sink.mails[-1]["From"] == "jobs@example.com"
    response = await office.post("email/verify", email="ann@example.com", code=code)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert (body["type"], body["email"], body["token_type"]) == ("login", "ann@example.com", "Bearer")
    assert body["organizations"] == [{"id": organization_id, "role": "owner"}]
    assert {"access_token", "refresh_token", "expires_in", "refresh_expires_in", "user_id"} <= body.keys()

    principal = await office.engine.credentials.authenticate(body["access_token"])
    assert (principal.organization_id, principal.queues) == (organization_id, None)
    assert str(principal.api_key_id) == body["user_id"]
    # The key behind it is hidden: it is no member, takes no place, and is the same each time.
    assert [key.name for key in await office.engine.api_keys.list(principal)] == ["Initial Admin Key"]
    assert len(await office.engine.api_keys.members(principal, organization_id)) == 1
    again = await office.post(
        "email/verify", email="ann@example.com", code=await office.code("ann@example.com")
    )
    assert again.json()["user_id"] == body["user_id"]
    # It can be revoked: every session by e-mail ends, and the next sign-in begins another.
    await office.engine.api_keys.revoke(principal, principal.api_key_id)
    with pytest.raises(AuthenticationFailed):
        await office.engine.credentials.authenticate(body["access_token"])
    later = await office.post(
        "email/verify", email="ann@example.com", code=await office.code("ann@example.com")
    )
    assert later.json()["user_id"] != body["user_id"]


async def test_a_code_counts_once_and_for_its_address(office: Office) -> None:
    await office.make_organization("ann@example.com")
    await office.make_organization("bob@example.com", "other")
    code = await office.code("ann@example.com")
    await office.code("bob@example.com")
    bobs = await office.post("email/verify", email="bob@example.com", code=code)
    ann = await office.post("email/verify", email="ann@example.com", code=code)
    again = await office.post("email/verify", email="ann@example.com", code=code)
    assert [response.status_code for response in (bobs, ann, again)] == [401, 200, 401]
    assert bobs.json() == again.json()
    assert again.json()["code"] == "UNAUTHORIZED"


async def test_a_code_survives_four_wrong_tries_and_not_five(office: Office) -> None:
    await office.make_organization("ann@example.com")
    for wrong_tries, status in ((4, 200), (5, 401)):
        code = await office.code("ann@example.com")
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        for _ in range(wrong_tries):
            assert (await office.post("email/verify", email="ann@example.com", code=wrong)).status_code == 401
        response = await office.post("email/verify", email="ann@example.com", code=code)
        assert response.status_code == status


async def test_a_code_ends_and_is_forgotten(office: Office, clock: SteeredClock) -> None:
    await office.make_organization("ann@example.com")
    code = await office.code("ann@example.com")
    clock.advance(900)
    assert (await office.post("email/verify", email="ann@example.com", code=code)).status_code == 401
    clock.advance(1)
    assert office.engine.sign_ins is not None
    assert await office.engine.sign_ins.prune() == 1


async def test_an_unknown_address_signs_up(office: Office) -> None:
    code = await office.code("new@example.com")
    offered = (await office.post("email/verify", email="new@example.com", code=code)).json()
    assert (offered["type"], offered["email"], offered["expires_in"]) == ("signup", "new@example.com", 900)
    assert "access_token" not in offered
    await office.make_organization("ann@example.com", "taken")
    token = offered["signup_token"]
    for fields, status in (
        ({"name": "x", "slug": "new-one"}, 400),
        ({"name": "New", "slug": "Not A Slug"}, 400),
        ({"name": "New", "slug": "taken"}, 409),
        ({"name": "New"}, 422),
    ):
        response = await office.post("signup/complete", signup_token=token, **fields)
        assert response.status_code == status, response.text
    made = await office.post("signup/complete", signup_token=token, name="New", slug="new-one")
    assert made.status_code == 201, made.text
    body = made.json()
    organization = body["organization"]
    assert (organization["name"], organization["slug"], organization["billing_email"]) == (
        "New",
        "new-one",
        "new@example.com",
    )
    for secret in (body["api_key"], body["access_token"]):
        principal = await office.engine.credentials.authenticate(secret)
        assert (principal.organization_id, principal.plan.tier) == (organization["id"], "free")
    again = await office.post("signup/complete", signup_token=token, name="New", slug="another")
    assert again.status_code == 401
    # What completed the sign-up is no code, and was one no longer.
    assert (await office.post("email/verify", email="new@example.com", code=code)).status_code == 401


async def test_where_nobody_may_sign_up_a_stranger_learns_nothing(closed_office: Office) -> None:
    await closed_office.make_organization("ann@example.com")
    known = await closed_office.post("email/start", email="ann@example.com")
    strange = await closed_office.post("email/start", email="abe@example.com")
    assert known.json() == strange.json()
    assert known.json() == {
        "message": known.json()["message"],
        "email_sent_to": "a***@example.com",
        "expires_in": 900,
        "success": True,
        "sent": True,
    }
    await closed_office.mailed()
    assert [mail["To"] for mail in closed_office.sink.mails] == ["ann@example.com"]
    response = await closed_office.post("email/verify", email="abe@example.com", code="123456")
    assert response.status_code == 401
    response = await closed_office.post("signup/complete", signup_token="x", name="Abe", slug="abe")
    assert response.status_code == 401


async def test_whether_an_address_is_known_is_told_by_each_spelling_of_the_question(office: Office) -> None:
    await office.make_organization("Ann@example.com")
    for email, exists in (("ann@EXAMPLE.com", True), ("abe@example.com", False)):
        answers = [
            await office.http.get("/api/v1/auth/check-email", params={"email": email}),
            await office.http.get("/api/v1/auth/email/check", params={"email": email}),
            await office.post("email/check", email=email),
        ]
        expected = {
            "exists": exists,
            "available": not exists,
            "signup_enabled": True,
            "has_organizations": exists,
        }
        assert [answer.json() for answer in answers] == [expected] * 3
    assert (await office.http.get("/api/v1/auth/check-email")).status_code == 400


async def test_what_is_no_address_or_no_code_is_400(office: Office) -> None:
    for email in ("", "a", "a@", "a@b\nc.de", "a@b.de\r\nBcc: x@y.de", f"{'a' * 65}@example.com"):
        for response in (
            await office.post("email/start", email=email),
            await office.post("email/verify", email=email, code="123456"),
            await office.http.get("/api/v1/auth/check-email", params={"email": email}),
        ):
            assert response.status_code == 400, response.text
    for code in ("", "12345", "1234567", "12345x", "１２３４５６"):
        response = await office.post("email/verify", email="a@example.com", code=code)
        assert response.status_code == 400, response.text


async def test_codes_are_asked_for_and_tried_at_a_rate(office: Office) -> None:
    started = [(await office.post("email/start", email="ann@example.com")).status_code for _ in range(6)]
    assert started == [200] * 5 + [429]
    tried = [
        await office.post("email/verify", email=f"a{number}@example.com", code="123456")
        for number in range(21)
    ]
    assert [response.status_code for response in tried] == [401] * 20 + [429]
    assert int(tried[-1].headers["retry-after"]) >= 1


async def test_a_mail_server_that_is_away_fails_no_request(office: Office, sink: tuple[Sink, str]) -> None:
    mailer = Mailer("smtp://127.0.0.1:1", sender="jobs@example.com")
    with pytest.raises(MailNotSent):
        await asyncio.to_thread(mailer.send, "ann@example.com", "s", "t")
    assert office.engine.sign_ins is not None
    office.engine.sign_ins._mailer = mailer
    assert (await office.post("email/start", email="ann@example.com")).status_code == 200
    await office.mailed()
    assert sink[0].mails == []


async def test_a_password_is_not_sent_to_another_machine_in_the_clear(sink: tuple[Sink, str]) -> None:
    # An address that is not known to be this machine's, though it is.
    url = sink[1].replace("//127.0.0.1", "//user:pass@0.0.0.0")
    with pytest.raises(MailNotSent, match="password"):
        await asyncio.to_thread(Mailer(url, sender="jobs@example.com").send, "ann@example.com", "s", "t")
    assert sink[0].mails == []
