"""What can go wrong here, as exceptions. Contract: pgwf 3."""

from collections.abc import Sequence

from millstream.domain.errors import MillstreamError


class InvalidArgument(MillstreamError, ValueError):
    """An argument is not valid"""


class InstallError(MillstreamError):
    """The schema could not be installed"""


class VerifyError(InstallError):
    """The schema is not installed completely"""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = list(missing)
        super().__init__(f"missing: {', '.join(missing)}")
