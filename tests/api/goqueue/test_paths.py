"""Paths, methods and what every answer has in common. Contract: goqueue-messaging 1, 2."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from tests.api.goqueue.wire import UNKNOWN, Topics, answered, refused
from tests.conftest import LiveServer


def test_every_route_is_served_under_v1_too(api: Topics) -> None:
    topic = api.create()
    for path in (f"/topics/{topic}", f"/topics/{topic}/partitions", "/topics"):
        assert answered(api.get(f"/v1{path}")) == answered(api.get(path))
    assert answered(api.post(f"/v1/topics/{topic}/messages", {"messages": [{"value": "x"}]}))["results"]


@pytest.mark.parametrize("path", ["/topics/", "/v1/topics/", "/groups/", "/v1/groups/"])
def test_a_slash_at_the_end_of_a_collection_changes_nothing(api: Topics, path: str) -> None:
    assert answered(api.get(path)) == answered(api.get(path.rstrip("/")))


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/v1/topics",
        "/v1/nothing",
        "/topics//",
        "/topics/a/b",
        "/topics/a/messages/forward",
        "/topics/a/messages/batch",
        "/groups/a/b/c",
        "/messages/unknown",
        "/messages/extend-visibility",
        "/delay/unknown",
        "/admin/topics/a/unknown",
        "/nothing-at-all",
    ],
)
def test_an_unknown_path_is_refused_in_json(api: Topics, path: str) -> None:
    refused(api.get(path), 404)
    refused(api.post(path, {}), 404)


def test_a_method_that_a_path_does_not_know_is_refused_with_those_it_knows(api: Topics) -> None:
    for method, path, allow in (
        ("PUT", "/topics", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "/v1/topics/", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/messages/ack", "OPTIONS, POST"),
        # Whoever asks for the head only would lease messages without being told of them.
        ("POST", "/groups/g/poll", "GET, OPTIONS"),
        ("POST", f"/topics/{UNKNOWN}", "DELETE, GET, HEAD, OPTIONS"),
    ):
        answer = api.call(method, path)
        refused(answer, 405)
        assert answer.headers["allow"] == allow


def test_another_type_than_json_is_refused(api: Topics) -> None:
    answer = api.call(
        "POST", "/topics", content=b"name=x", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    refused(answer, 415)


@pytest.mark.parametrize("line", ["FETCH /topics HTTP/1.1", "GET /topics HTTP/9.9", "?"])
def test_what_is_no_request_is_refused_in_json_too(server: LiveServer, line: str) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(f"{line}\r\nHost: localhost\r\n\r\n".encode())
        with HTTPResponse(connection) as response:
            response.begin()
            body = json.loads(response.read())
    assert (response.status, response.headers["content-type"]) == (400, "application/json")
    assert body["status"] == 400
    assert isinstance(body["error"], str)


def test_a_slash_in_a_name_does_not_lead_elsewhere(api: Topics) -> None:
    topic = api.create()
    refused(api.get(f"/topics/{topic}%2Fpartitions"), 404, "topic not found")
    refused(api.get("/topics/%00"), 404, "topic not found")
    refused(api.get("/topics/%ff"), 404, "topic not found")


def test_a_request_id_is_echoed(api: Topics) -> None:
    answer = api.call("GET", "/topics", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"


def test_the_document_lists_every_route(api: Topics) -> None:
    document = answered(api.get("/openapi.json"))
    assert document == answered(api.get("/v1/openapi.json"))
    assert {"/topics", "/topics/{topic}/messages"} <= set(document["paths"])
