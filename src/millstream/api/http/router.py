"""Routing over raw path segments: each is decoded by itself, so that an encoded slash never re-routes."""

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from millstream.api.http.endpoint import Endpoint
from millstream.domain import limits

UNDECODABLE = "\0"
"""A text that no id and no name can be; an encoded NUL reads the same."""

_HEX = frozenset(b"0123456789abcdefABCDEF")


class Route:
    """A path that is served, its endpoints by method, and the `Allow` header of the others."""

    __slots__ = ("allow", "endpoints")

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.allow = b""

    def add(self, endpoint: Endpoint) -> None:
        """Serve `endpoint` here; a GET without effects serves HEAD as well."""
        if endpoint.method in self.endpoints:
            raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
        self.endpoints[endpoint.method] = endpoint
        if endpoint.method == "GET" and not endpoint.has_effects:
            self.endpoints.setdefault("HEAD", endpoint)
        self.allow = ", ".join(sorted({*self.endpoints, "OPTIONS"})).encode()


class _Node:
    __slots__ = ("literals", "parameter", "route")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.route: Route | None = None


class Router:
    """Finds the route of a path. Literal segments win over parameters; no redirects, no normalising."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._root = _Node()
        self._literal_paths: dict[bytes, tuple[Route, tuple[str, ...]]] = {}
        for endpoint in self.endpoints:
            route = self._route_at(endpoint.path)
            route.add(endpoint)
            if "{" not in endpoint.path:
                self._literal_paths[endpoint.path.encode()] = (route, ())

    def find_route(self, raw_path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """Return the route of `raw_path` and its decoded parameters, or None when nothing is served there."""
        found = self._literal_paths.get(raw_path)
        if found is not None:
            return found
        if len(raw_path) > limits.PATH_BYTES_MAX or raw_path[:1] != b"/":
            return None
        segments: list[str] = []
        for raw in raw_path[1:].split(b"/"):
            segment = decode_segment(raw)
            if not segment:
                return None
            segments.append(segment)
        return _descend(self._root, segments, 0, ())

    def _route_at(self, path: str) -> Route:
        node = self._root
        for segment in path[1:].split("/"):
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.route is None:
            node.route = Route()
        return node.route


def decode_segment(raw: bytes) -> str:
    """Return the percent-decoded UTF-8 text of one path segment.

    What does not decode is `UNDECODABLE`, so that it is an unknown id to one endpoint and a bad name to
    another, like every other text that cannot be what is asked for.
    """
    try:
        if b"%" not in raw:
            return raw.decode()
        for escape in raw.split(b"%")[1:]:
            if len(escape) < 2 or escape[0] not in _HEX or escape[1] not in _HEX:
                return UNDECODABLE
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return UNDECODABLE


def _descend(
    node: _Node, segments: list[str], depth: int, parameters: tuple[str, ...]
) -> tuple[Route, tuple[str, ...]] | None:
    if depth == len(segments):
        return None if node.route is None else (node.route, parameters)
    segment = segments[depth]
    literal = node.literals.get(segment)
    found = None if literal is None else _descend(literal, segments, depth + 1, parameters)
    if found is None and node.parameter is not None:
        found = _descend(node.parameter, segments, depth + 1, (*parameters, segment))
    return found
