"""Contract: spooled-jobs 1.2, spooled-tenancy 1.2, 4.1."""

from __future__ import annotations

import pytest

from tests.api.spooled.wire import Api, LiveServer, answered, refused

BAD_CREDENTIAL_CODES = {"UNAUTHORIZED", "AUTHENTICATION_FAILED"}


def test_an_api_key_is_a_bearer_credential(api: Api) -> None:
    answered(api.get("/jobs/stats"))


@pytest.mark.parametrize(
    "form",
    ["", "Bearer", "bearer {key}", "BEARER {key}", "Basic {key}", "{key}", "Token {key}", "Bearer\t{key}"],
)
def test_only_the_exact_bearer_form_is_a_credential(anonymous: Api, server: LiveServer, form: str) -> None:
    header = {"Authorization": form.format(key=server.api_key)}
    refused(anonymous.call("GET", "/jobs/stats", headers=header), 401, "UNAUTHORIZED")


def test_more_than_one_space_before_the_key_is_401(anonymous: Api, server: LiveServer) -> None:
    response = anonymous.call("GET", "/jobs/stats", headers={"Authorization": f"Bearer  {server.api_key}"})
    assert refused(response, 401)["code"] in BAD_CREDENTIAL_CODES


@pytest.mark.parametrize(
    "credential",
    [
        "sk_test_" + "A" * 43,
        "sk_live_" + "A" * 43,
        "sp_test_" + "A" * 43,
        "x",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        "eyJ",
        "'; drop table jobs; --",
        "A" * 5000,
    ],
)
def test_a_credential_that_does_not_verify_is_401(anonymous: Api, credential: str) -> None:
    response = anonymous.call("GET", "/jobs/stats", headers={"Authorization": f"Bearer {credential}"})
    body = refused(response, 401)
    assert body["code"] in BAD_CREDENTIAL_CODES
    assert credential not in response.text


def test_a_key_that_differs_in_its_last_character_is_401(anonymous: Api, server: LiveServer) -> None:
    last = "A" if server.api_key[-1] != "A" else "B"
    header = {"Authorization": f"Bearer {server.api_key[:-1]}{last}"}
    assert refused(anonymous.call("GET", "/jobs", headers=header), 401)["code"] in BAD_CREDENTIAL_CODES


def test_other_places_for_a_key_are_not_looked_at(anonymous: Api, server: LiveServer) -> None:
    refused(anonymous.call("GET", "/jobs", headers={"X-API-Key": server.api_key}), 401, "UNAUTHORIZED")
    for name in ("api_key", "token", "access_token"):
        refused(anonymous.call("GET", "/jobs", params={name: server.api_key}), 401, "UNAUTHORIZED")
    refused(anonymous.call("GET", "/jobs", headers={"X-Admin-Key": server.admin_key}), 401, "UNAUTHORIZED")
    admin_as_bearer = {"Authorization": f"Bearer {server.admin_key}"}
    assert (
        refused(anonymous.call("GET", "/jobs", headers=admin_as_bearer), 401)["code"] in BAD_CREDENTIAL_CODES
    )


def test_the_organization_header_never_widens_access(api: Api) -> None:
    job_id = api.enqueue("header-queue")
    response = api.call("GET", f"/jobs/{job_id}", headers={"X-Organization-ID": "someone-else"})
    assert answered(response)["id"] == job_id


def test_health_needs_no_credential(anonymous: Api) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        answered(anonymous.call("GET", path))
