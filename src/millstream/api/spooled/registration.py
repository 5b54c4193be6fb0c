"""Who may create an organization. Contract: spooled-tenancy 3.1, 17."""

from typing import assert_never

from millstream.api.http.endpoint import Request
from millstream.config import RegistrationMode
from millstream.domain.errors import AccessDenied
from millstream.engine.admin_access import AdminAccess


class Registration:
    """Whether creating an organization is open to anybody, to who has the admin key, or to nobody."""

    def __init__(self, mode: RegistrationMode, admin_access: AdminAccess) -> None:
        self._mode = mode
        self._admin_access = admin_access

    async def check(self, request: Request) -> None:
        """Raise AccessDenied when this request may not create an organization, RateLimited after wrong keys."""
        match self._mode:
            case RegistrationMode.OPEN:
                return
            case RegistrationMode.CLOSED:
                if not await self._admin_access.is_admin(
                    request.headers.get(b"x-admin-key"), request.address
                ):
                    raise AccessDenied("Registration is closed: X-Admin-Key must be the server's admin key")
            case RegistrationMode.INVITE:
                raise AccessDenied("Registration is by invitation, and there are no invitations")
            case _:
                assert_never(self._mode)
