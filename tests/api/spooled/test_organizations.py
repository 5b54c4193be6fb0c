"""Contract: spooled-tenancy 2.1, 3.1, 4.1, 17."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.api.spooled.objects import conforms, shape
from tests.api.spooled.wire import Api, LiveServer, answered, refused, refused_fields

ORGANIZATION = shape(
    id="text",
    name="text",
    slug="text",
    plan_tier="text",
    settings="any",
    created_at="time",
    updated_at="time",
)


def a_slug() -> str:
    return f"org-{uuid.uuid4().hex[:20]}"


@pytest.fixture
def create(anonymous: Api, server: LiveServer) -> Any:
    def call(**fields: object) -> httpx2.Response:
        body = {"name": "Example", "slug": a_slug(), **fields}
        return anonymous.call("POST", "/organizations", body, headers={"X-Admin-Key": server.admin_key})

    return call


def test_an_organization_comes_with_a_key_that_works(create: Any, anonymous: Api) -> None:
    slug = a_slug()
    response = create(name="Ünïcode & <b>Co</b>", slug=slug, billing_email="pay@example.com")
    made = answered(response, 201)
    organization = conforms(made["organization"], ORGANIZATION)
    assert (organization["name"], organization["slug"]) == ("Ünïcode & <b>Co</b>", slug)
    assert (organization["plan_tier"], organization["settings"]) == ("free", {})
    assert organization["billing_email"] == "pay@example.com"
    assert organization.get("custom_limits") is None
    key = conforms(made["api_key"], shape(id="text", key="text", name="text", created_at="time"))
    assert key["name"] == "Initial Admin Key"
    assert re.fullmatch(r"sk_test_[A-Za-z0-9_-]{43}", key["key"])
    assert response.headers["cache-control"] == "no-store"
    api = Api(anonymous.http, anonymous.url, key["key"])
    assert api.job(api.enqueue("q"))["organization_id"] == organization["id"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""),
        ("name", "ab"),
        ("name", "n" * 101),
        ("slug", "ab"),
        ("slug", "s" * 51),
        ("slug", "1abc"),
        ("slug", "-abc"),
        ("slug", "abc-"),
        ("slug", "a--b"),
        ("slug", "ABC"),
        ("slug", "a_b"),
        ("slug", "a.b"),
        ("slug", "a b"),
        ("slug", "аbc"),
        ("slug", "abc１"),
        ("slug", "abc\n"),
        ("slug", "'; drop--"),
        *(("slug", word) for word in ("admin", "api", "www", "support", "system", "root", "test")),
        ("billing_email", "a"),
        ("billing_email", "a@"),
        ("billing_email", "a@b\nc.de"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_broken_rule_is_400(create: Any, name: str, value: str) -> None:
    assert refused_fields(create(**{name: value}), 400) == {name}


@pytest.mark.parametrize("name", ["name", "slug", "billing_email"])
def test_a_wrong_type_is_422(create: Any, name: str) -> None:
    for value in (5, True, [], {}):
        assert refused_fields(create(**{name: value}), 422) == {name}
    if name != "billing_email":
        assert refused_fields(create(**{name: None}), 422) == {name}


def test_fields_that_would_gain_a_privilege_are_ignored(create: Any) -> None:
    fields = {
        "plan_tier": "enterprise",
        "custom_limits": {"max_queues": 9},
        "id": "mine",
        "settings": {"a": 1},
    }
    organization = answered(create(**fields), 201)["organization"]
    assert organization["plan_tier"] == "free"
    assert organization["id"] != "mine"
    assert organization["settings"] == {}


def test_a_slug_is_taken_once(create: Any) -> None:
    slug = a_slug()
    with ThreadPoolExecutor(4) as pool:
        calls = [call.result() for call in [pool.submit(create, slug=slug) for _ in range(4)]]
    assert sorted(response.status_code for response in calls) == [201, 409, 409, 409]
    refused(create(slug=slug), 409, "CONFLICT")
