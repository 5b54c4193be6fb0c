"""Paths of this dialect: each is served at the root and under `/v1`, with and without a slash at its end."""

from typing import Final

from millstream.api.http.router import Route, Router

_VERSION: Final = b"/v1"


class TopicRouter(Router):
    """Finds routes by their path at the root. Contract: goqueue-messaging 1.1, ruling R20."""

    def find_route(self, raw_path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """Return the route of `raw_path` and its decoded parameters, or None when nothing is served there."""
        if raw_path[:4] == b"/v1/":
            raw_path = raw_path[len(_VERSION) :]
        if raw_path[-1:] == b"/" and len(raw_path) > 1:
            raw_path = raw_path[:-1]
        return super().find_route(raw_path)
