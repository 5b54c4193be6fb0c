"""Request limits at the edge: whose bucket a request is taken from, and when. Contract: spooled-tenancy 8."""

from collections.abc import Mapping

from millstream.api.http.auth import Authenticator
from millstream.api.http.clients import ClientReader, Peer
from millstream.api.http.endpoint import Request
from millstream.domain.errors import RateLimited
from millstream.domain.rate import Client, Standing
from millstream.domain.tenant import Principal
from millstream.engine.rate_limits import RateLimits


class Limiter:
    """Counts requests: those with a valid credential for its owner, all others for their address."""

    def __init__(self, rate_limits: RateLimits, clients: ClientReader) -> None:
        self._rate_limits = rate_limits
        self._clients = clients

    async def let_in(self, request: Request, authenticator: Authenticator | None) -> None:
        """Count a request, and set its principal when an `authenticator` is to find it.

        Raises RateLimited, and whatever the authenticator does.
        """
        if authenticator is None:
            await self._admit_client(request)
            return
        principal = authenticator.known(request.headers)
        if principal is None:
            principal = await self._authenticate(request, authenticator)
        request.principal = principal
        request.standing = await self._rate_limits.admit(principal)
        _check(request.standing)

    async def _authenticate(self, request: Request, authenticator: Authenticator) -> Principal:
        # The address pays for the look-up and has it back when the credential is valid, so that invented keys use up
        # their sender's share, not the database.
        client = await self._admit_client(request)
        principal = await authenticator.authenticate(request.headers)
        await self._rate_limits.give_back(client)
        return principal

    async def _admit_client(self, request: Request) -> Client:
        client = self._clients.client_of(request.peer, request.headers)
        request.standing = await self._rate_limits.admit_client(client)
        _check(request.standing)
        return client

    async def note(self, peer: Peer, headers: Mapping[bytes, bytes], *, counted: bool) -> Standing:
        """Count, if it is `counted`, a request that was answered before anybody was asked."""
        client = self._clients.client_of(peer, headers)
        return await self._rate_limits.admit_client(client, 1 if counted else 0)


def _check(standing: Standing) -> None:
    if standing.retry_after_seconds:
        raise RateLimited(standing.retry_after_seconds)
