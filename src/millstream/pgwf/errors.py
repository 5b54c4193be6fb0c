"""What can go wrong here, as exceptions. Contract: pgwf 3."""

from collections.abc import Sequence

from millstream.domain.errors import MillstreamError


class WorkflowError(MillstreamError):
    """Something about workflows was refused

    `job_id` is the job that the call was about, `sqlstate` and `code` are what PostgreSQL said (`code` is the machine code
    in the error's constraint field); each is None where there is none. The driver's error is the cause.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        job_id: str | None = None,
        sqlstate: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.sqlstate = sqlstate
        self.code = code


class InvalidArgument(WorkflowError, ValueError):
    """An argument is not valid"""


class LeaseError(WorkflowError):
    """The lease does not permit this"""


class LeaseExpired(LeaseError):
    """The lease has ended: its time is over, or the job was completed or rescheduled under it"""


class LeaseMismatch(LeaseError):
    """The database knows of no such lease any more"""


class JobNotFound(WorkflowError):
    """There is no such job"""


class JobNotAvailable(WorkflowError):
    """The job is leased, cancelled, or waits for something"""


class DependencyViolation(WorkflowError):
    """A dependency is unknown, or the singleton key of a job would change"""


class JobAlreadyExists(WorkflowError):
    """A live job has this id"""


class JobAlreadyCompleted(WorkflowError):
    """The job is archived, and its id is taken"""


class JobCancelled(WorkflowError):
    """The job was asked to be cancelled"""


class PayloadError(WorkflowError):
    """The payload is no JSON object, or too large"""


class TransientError(WorkflowError):
    """The transaction may succeed when it is repeated"""


class InstallError(WorkflowError):
    """The schema could not be installed"""


class VerifyError(InstallError):
    """The schema is not installed completely"""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = list(missing)
        super().__init__(f"missing: {', '.join(missing)}")
