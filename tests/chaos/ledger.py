"""What clients were told, held against what the database says."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from millstream.domain.job import JobState
from millstream.store import installation
from tests.chaos.line import Answer

LEASE_SECONDS = 5
# What a client may be told by a server whose database or connections fail it.
_HONEST = {200, 201, 409, 503}
_COLUMNS = ("state", "payload", "result", "lease_id")


@dataclass(frozen=True)
class Holding:
    """A job in the hands of a worker, as a claim was answered."""

    job_id: str
    lease_id: str
    worker_id: str
    expires_at: datetime
    number: int


class Ledger:
    """Every answer of a load, by what it promises. Each job carries a number that was sent once."""

    def __init__(self) -> None:
        self.created: dict[str, int] = {}
        self.unanswered_numbers: set[int] = set()
        self.holdings: list[Holding] = []
        self.sent_completions: defaultdict[str, set[str]] = defaultdict(set)
        self.completed: dict[str, str] = {}
        self.completed_twice: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0
        self.unreachable = 0
        self._dishonest: list[Answer] = []

    def note(self, answer: Answer) -> None:
        """Note that a request was answered, and whether the answer has the form that it must have."""
        self.statuses[answer.status] += 1
        refused = answer.status == 503 and (
            answer.headers.get("retry-after") != "1" or answer.body["code"] != "SERVICE_UNAVAILABLE"
        )
        if answer.status not in _HONEST or refused:
            self._dishonest.append(answer)

    def note_created(self, job_id: str, number: int) -> None:
        self.created[job_id] = number
        self.unanswered_numbers.discard(number)

    def note_claimed(self, job: dict[str, Any], worker_id: str) -> Holding:
        holding = Holding(
            job["id"],
            job["lease_id"],
            worker_id,
            datetime.fromisoformat(job["lease_expires_at"]),
            job["payload"]["number"],
        )
        self.holdings.append(holding)
        return holding

    def note_completed(self, holding: Holding) -> None:
        if holding.job_id in self.completed:
            self.completed_twice.append(holding.job_id)
        self.completed[holding.job_id] = holding.lease_id

    async def check(self, dsn: str, *, finished: bool = True) -> None:
        """Fail unless every answer was the truth; with `finished`, unless every job was done as well."""
        rows = await _read_jobs(dsn)
        assert not self._dishonest
        self._check_jobs(rows)
        self._check_completions(rows)
        self._check_leases()
        if finished:
            assert {row["state"] for row in rows.values()} <= {JobState.COMPLETED}

    def _check_jobs(self, rows: dict[str, dict[str, Any]]) -> None:
        numbers = Counter(json.loads(row["payload"])["number"] for row in rows.values())
        assert set(numbers.values()) <= {1}, "a request was carried out twice"
        for job_id, number in self.created.items():
            assert job_id in rows, "a job whose creation was answered is gone"
            assert json.loads(rows[job_id]["payload"])["number"] == number
        assert set(numbers) <= set(self.created.values()) | self.unanswered_numbers

    def _check_completions(self, rows: dict[str, dict[str, Any]]) -> None:
        assert not self.completed_twice
        for job_id, lease_id in self.completed.items():
            row = rows[job_id]
            assert row["state"] == JobState.COMPLETED, "an acknowledged completion is gone"
            assert str(row["lease_id"]) == lease_id
        for job_id, row in rows.items():
            if row["state"] == JobState.COMPLETED:
                assert str(row["lease_id"]) in self.sent_completions[job_id]
                assert json.loads(row["result"]) == {"lease": str(row["lease_id"])}

    def _check_leases(self) -> None:
        by_job: defaultdict[str, list[Holding]] = defaultdict(list)
        for holding in sorted(self.holdings, key=lambda holding: holding.expires_at):
            by_job[holding.job_id].append(holding)
        for held in by_job.values():
            for earlier, later in pairwise(held):
                assert later.expires_at - timedelta(seconds=LEASE_SECONDS) >= earlier.expires_at, (
                    "two workers held one job at once"
                )


async def _read_jobs(dsn: str) -> dict[str, dict[str, Any]]:
    async with installation.direct_session(dsn) as session:
        rows = await session.many("select id, state, payload, result, lease_id from millstream.all_jobs")
    jobs = {str(row["id"]): {name: row[name] for name in _COLUMNS} for row in rows}
    assert len(jobs) == len(rows), "a job lives in two places"
    return jobs
