"""Contract: spooled-jobs 1.8; spooled-tenancy 8.2, 12.4 to 12.6; ruling R22."""

from __future__ import annotations

import time
import uuid

import httpx2
import pytest

from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused

SECURITY_HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "x-xss-protection": "1; mode=block",
    "referrer-policy": "strict-origin-when-cross-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "permissions-policy": "accelerometer=(), camera=(), geolocation=(), microphone=()",
}

ANSWERS: dict[str, tuple[str, str, bytes | None, int]] = {
    "success": ("GET", "/jobs/stats", None, 200),
    "created": ("POST", "/jobs", b'{"queue_name":"headers","payload":1}', 201),
    "no content": ("DELETE", "/queues/headers-gone?delete_jobs=true", None, 404),
    "syntax": ("POST", "/jobs", b"{", 400),
    "shape": ("POST", "/jobs", b"{}", 422),
    "missing": ("GET", f"/jobs/{UNKNOWN_ID}", None, 404),
    "conflict": ("POST", f"/jobs/{UNKNOWN_ID}/retry", None, 409),
    "unknown path": ("GET", "/nothing", None, 404),
    "wrong method": ("PATCH", "/jobs", None, 405),
    "too large": ("POST", "/jobs", b'{"queue_name":"q","payload":"' + b"x" * 1_100_000 + b'"}', 413),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_carries_the_whole_set_of_headers(api: Api, name: str) -> None:
    method, path, content, status = ANSWERS[name]
    before = int(time.time())
    response = api.call(method, path, content=content)
    assert response.status_code == status, response.text
    headers = response.headers
    assert uuid.UUID(headers["x-request-id"])
    assert headers["x-api-version"] == "1"
    assert headers["x-ratelimit-limit"] == "1000000"
    assert headers["x-ratelimit-remaining"] == "1000000"
    assert headers["x-ratelimit-scope"] == "organization"
    assert before + 60 <= int(headers["x-ratelimit-reset"]) <= int(time.time()) + 61
    assert "retry-after" not in headers
    assert {key: headers.get(key) for key in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "server" not in headers
    assert "strict-transport-security" not in headers


def test_an_answer_without_a_credential_carries_them_too(anonymous: Api) -> None:
    response = anonymous.get("/jobs")
    refused(response, 401, "UNAUTHORIZED")
    assert response.headers["x-api-version"] == "1"
    for name in ("limit", "remaining", "reset"):
        assert int(response.headers[f"x-ratelimit-{name}"]) >= 0
    assert response.headers["x-ratelimit-scope"]
    assert {key: response.headers.get(key) for key in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health_carries_a_request_id_and_the_security_headers(anonymous: Api, path: str) -> None:
    response = anonymous.call("GET", path)
    assert uuid.UUID(response.headers["x-request-id"])
    assert {key: response.headers.get(key) for key in SECURITY_HEADERS} == SECURITY_HEADERS


class TestRequestIds:
    @pytest.mark.parametrize("given", ["a", "abc-123", "A" * 128, "~!{}[]();,"])
    @pytest.mark.parametrize("path", ["/jobs/stats", f"/jobs/{UNKNOWN_ID}", "/nothing", "/health"])
    def test_one_of_visible_ascii_is_echoed(self, api: Api, path: str, given: str) -> None:
        response = api.call("GET", path, headers={"X-Request-Id": given})
        assert response.headers.get_list("x-request-id") == [given]

    @pytest.mark.parametrize("given", [b"A" * 129, b"two words", b"\xc3\xa9", b"a\tb", b""])
    def test_any_other_is_replaced(self, api: Api, given: bytes) -> None:
        headers = httpx2.Headers(
            [(b"Authorization", f"Bearer {api.api_key}".encode()), (b"X-Request-Id", given)]
        )
        response = api.http.get(f"{api.url}/api/v1/jobs/stats", headers=headers)
        (minted,) = response.headers.get_list("x-request-id")
        assert uuid.UUID(minted)

    def test_each_request_without_one_gets_its_own(self, api: Api) -> None:
        minted = {api.get("/jobs/stats").headers["x-request-id"] for _ in range(5)}
        assert len(minted) == 5


class TestApiVersion:
    @pytest.mark.parametrize("given", ["1", "v" * 17, "1; DROP", "1-2", "1.0.0.0.0.0.0.0.0.0.0.0.0", "*"])
    def test_one_and_anything_malformed_mean_version_one(self, api: Api, given: str) -> None:
        response = api.call("GET", "/jobs/stats", headers={"X-API-Version": given})
        assert response.status_code == 200, response.text
        assert response.headers["x-api-version"] == "1"

    def test_a_version_that_is_not_ascii_means_version_one(self, api: Api) -> None:
        headers = httpx2.Headers(
            [(b"Authorization", f"Bearer {api.api_key}".encode()), (b"X-API-Version", "версия1".encode())]
        )
        answered(api.http.get(f"{api.url}/api/v1/jobs/stats", headers=headers))

    @pytest.mark.parametrize("given", ["2", "99", "1.0", "1.0.0", "v1", "abc", "a" * 16])
    def test_any_other_well_formed_version_is_400(self, api: Api, given: str) -> None:
        response = api.call("GET", "/jobs/stats", headers={"X-API-Version": given})
        body = refused(response, 400, "BAD_REQUEST")
        assert "1" in body["message"]
        assert response.headers["x-api-version"] == "1"

    def test_health_takes_no_notice_of_a_version(self, anonymous: Api) -> None:
        answered(anonymous.call("GET", "/health", headers={"X-API-Version": "2"}))


class TestCors:
    ORIGIN = "http://localhost:3000"

    def test_a_preflight_needs_no_credential(self, anonymous: Api) -> None:
        asked = {
            "Origin": self.ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type,x-request-id,x-organization-id",
        }
        response = anonymous.call("OPTIONS", "/jobs", headers=asked)
        assert response.status_code in (200, 204)
        assert response.headers["access-control-allow-origin"] in ("*", self.ORIGIN)
        allowed = {
            word.strip().upper() for word in response.headers["access-control-allow-methods"].split(",")
        }
        assert allowed >= {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} or allowed == {"*"}
        names = {word.strip().lower() for word in response.headers["access-control-allow-headers"].split(",")}
        assert names >= {"authorization", "content-type", "x-request-id", "x-organization-id"}
        assert "access-control-allow-credentials" not in response.headers

    @pytest.mark.parametrize("path", ["/jobs", f"/jobs/{UNKNOWN_ID}"])
    def test_an_answer_exposes_what_a_page_may_read(self, api: Api, path: str) -> None:
        response = api.call("GET", path, headers={"Origin": self.ORIGIN})
        assert response.headers["access-control-allow-origin"] in ("*", self.ORIGIN)
        exposed = {
            word.strip().lower() for word in response.headers["access-control-expose-headers"].split(",")
        }
        rate = {f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset", "scope")}
        assert exposed >= {"x-has-more", "x-request-id", "retry-after", "x-api-version"} | rate


def test_a_large_answer_is_compressed_for_those_who_accept_it(api: Api) -> None:
    job_id = api.enqueue(a_queue(), "x" * 50_000)
    packed = api.call("GET", f"/jobs/{job_id}", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert answered(packed)["payload"] == "x" * 50_000
    plain = api.call("GET", f"/jobs/{job_id}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert answered(plain)["payload"] == "x" * 50_000
