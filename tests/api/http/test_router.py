import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Request, Response
from millstream.api.http.router import UNDECODABLE, Router, decode_segment


async def nothing(request: Request) -> Response:
    return NO_CONTENT


def router(*routes: str) -> Router:
    endpoints: list[Endpoint] = []
    for route in routes:
        method, path = route.split(" ")
        endpoints.append(
            Endpoint(method=method, path=path, handler=nothing, summary="", tag="", answers={204: None})
        )
    return Router(endpoints)


ROUTES = router(
    "GET /jobs",
    "POST /jobs",
    "POST /jobs/claim",
    "GET /jobs/dlq",
    "POST /jobs/dlq/retry",
    "GET /jobs/{id}",
    "POST /jobs/{id}/retry",
    "POST /jobs/{id}/complete",
    "GET /queues/{name}/stats",
    "GET /flows/{flow}/jobs/{job}",
    "GET /flows/{flow}/jobs/status",
)


def found(path: bytes) -> tuple[str, tuple[str, ...]] | None:
    match = ROUTES.find_route(path)
    if match is None:
        return None
    route, parameters = match
    return next(iter(route.endpoints.values())).path, parameters


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/jobs", ("/jobs", ())),
        (b"/jobs/claim", ("/jobs/claim", ())),
        (b"/jobs/dlq", ("/jobs/dlq", ())),
        (b"/jobs/dlq/retry", ("/jobs/dlq/retry", ())),
        (b"/jobs/dlq/complete", ("/jobs/{id}/complete", ("dlq",))),
        (b"/jobs/abc", ("/jobs/{id}", ("abc",))),
        (b"/flows/1/jobs/status", ("/flows/{flow}/jobs/status", ("1",))),
        (b"/flows/1/jobs/2", ("/flows/{flow}/jobs/{job}", ("1", "2"))),
        (b"/job%73", ("/jobs", ())),
        (b"/queues/a%20b/stats", ("/queues/{name}/stats", ("a b",))),
        (b"/queues/%C3%A9/stats", ("/queues/{name}/stats", ("é",))),
        (b"/jobs/a+b", ("/jobs/{id}", ("a+b",))),
    ],
)
def test_literal_segments_win_over_parameters(path, expected):
    assert found(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"",
        b"jobs",
        b"/jobs/",
        b"//jobs",
        b"/jobs//complete",
        b"/jobs/a/complete/",
        b"/JOBS",
        b"/jobs/" + b"x" * 3000,
        b"/flows/1",
    ],
)
def test_other_paths_lead_nowhere(path):
    assert found(path) is None


def test_an_encoded_slash_stays_within_its_segment():
    assert found(b"/jobs/dlq%2Fretry") == ("/jobs/{id}", ("dlq/retry",))
    assert found(b"/jobs/..%2f..%2fqueues") == ("/jobs/{id}", ("../../queues",))
    assert found(b"/jobs%2Fclaim") is None


@pytest.mark.parametrize("raw", [b"%ff", b"%zz", b"%", b"%4", b"a%C3%28", b"%ED%A0%80", b"\xff"])
def test_a_segment_that_does_not_decode_is_no_name_that_anything_has(raw):
    assert found(b"/jobs/" + raw) == ("/jobs/{id}", (UNDECODABLE,))
    assert found(b"/" + raw) is None


def test_a_path_that_looks_upwards_is_not_normalised():
    assert found(b"/jobs/../jobs") is None


def test_a_get_route_serves_head_and_says_what_it_allows():
    match = ROUTES.find_route(b"/jobs")
    assert match is not None
    route, _ = match

    assert route.endpoints["HEAD"] is route.endpoints["GET"]
    assert route.allow == b"GET, HEAD, OPTIONS, POST"


def test_one_method_of_one_path_has_one_endpoint():
    with pytest.raises(ValueError, match="declared twice"):
        router("GET /a/{x}", "GET /a/{y}")


@given(st.binary())
def test_any_path_is_routed_or_not_but_never_raises(path):
    ROUTES.find_route(b"/jobs/" + path)


@given(st.text(min_size=1))
def test_every_text_can_be_carried_by_a_segment(text):
    encoded = b"".join(b"%%%02x" % byte for byte in text.encode())

    assert decode_segment(encoded) == text
