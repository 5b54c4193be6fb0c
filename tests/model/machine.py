"""Random operations on a real engine, each answer compared with the reference's."""

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from msgspec.structs import replace

from millstream.domain.errors import MillstreamError
from millstream.domain.job import (
    ClaimedJob,
    ClaimRequest,
    Completed,
    Completion,
    DeadSelection,
    Enqueued,
    Failed,
    Failure,
    JobFilter,
    Lease,
    NewJob,
    Renewal,
)
from millstream.domain.queue import QueueChange
from tests.model.compared_tenant import (
    EVERYTHING,
    GRAVES,
    QUEUES,
    REFUSALS,
    STATUSES,
    WORKERS,
    ComparedTenant,
    attempt,
)
from tests.model.reference import Backoff, Fence, Refused, Status, Wish

queues = st.sampled_from([QUEUES[0], QUEUES[0], QUEUES[0], QUEUES[1], GRAVES])
workers = st.sampled_from(WORKERS)
PLAIN = Wish(
    queue=QUEUES[0],
    priority=0,
    max_retries=1,
    delay_seconds=None,
    expires_in_seconds=None,
    idempotency_key=None,
)
DEEDS = (
    *("create", "create_child", "create_dead", "claim", "complete", "fail", "cancel", "retry", "retry_dead"),
    "advance",
)
# Small ones mean a job in the status that matters most to the operation.
picks = st.one_of(st.just(0), st.just(0), st.integers(0, 2), st.integers(0, 30))
lease_seconds = st.sampled_from([5, 30, 60])
wishes = st.builds(
    Wish,
    queue=queues,
    priority=st.integers(-1, 2),
    max_retries=st.sampled_from([None, 0, 1, 2]),
    delay_seconds=st.sampled_from([None] * 5 + [-5, 0, 3, 40]),
    expires_in_seconds=st.sampled_from([None] * 8 + [-1, 0, 4, 50]),
    idempotency_key=st.sampled_from([None, None, "one", "two"]),
)
presented = st.sampled_from(["current", "current", "current", "stale", "none", "foreign", "text"])


class JobMachine(ComparedTenant):
    """What clients, workers and loops do to jobs and queues."""

    # Creating

    @rule(wish=wishes)
    def create(self, wish: Wish) -> None:
        enqueued = self.run(self.jobs.enqueue(self.principal, self._new_job(wish)))
        self._check_created([wish], [enqueued])

    @precondition(lambda self: self.reference.jobs)
    @rule(wish=wishes, pick=picks, first=st.sampled_from([Status.DEADLETTER, Status.PENDING]))
    def create_child(self, wish: Wish, pick: int, first: Status) -> None:
        parent = self.pick(pick, first)
        job = replace(self._new_job(wish), parent_job_id=parent.id)
        enqueued = self.run(self.jobs.enqueue(self.principal, job))
        self._check_created([wish], [enqueued], parent.id)

    @rule(pick=picks, has_parent=st.booleans())
    def create_dead(self, pick: int, has_parent: bool) -> None:
        """A short cut to what takes chance many steps: a dead letter, often with a parent of the same kind."""
        wish = dataclasses.replace(PLAIN, queue=GRAVES, max_retries=0)
        parent = self.pick(pick, Status.DEADLETTER).id if has_parent and self.reference.jobs else None
        job = replace(self._new_job(wish), parent_job_id=parent)
        self._check_created([wish], [self.run(self.jobs.enqueue(self.principal, job))], parent)
        self.claim(GRAVES, WORKERS[0], 1, 30)
        for place, buried in enumerate(self.ordered(Status.PROCESSING)):
            if buried.queue == GRAVES and buried.status is Status.PROCESSING:
                self.fail(place, "current", True, False, None)
                break

    @precondition(lambda self: self.reference.purged)
    @rule(wish=wishes)
    def create_child_of_a_purged_job(self, wish: Wish) -> None:
        job = replace(self._new_job(wish), parent_job_id=self.reference.purged[-1])
        assert self.run(attempt(self.jobs.enqueue(self.principal, job))) is Refused.BAD_REQUEST

    @rule(wanted=st.lists(wishes, min_size=1, max_size=4))
    def create_many(self, wanted: list[Wish]) -> None:
        answers = self.run(self.jobs.enqueue_many(self.principal, [self._new_job(wish) for wish in wanted]))
        self._check_created(wanted, answers)

    @rule(wanted=st.lists(wishes, min_size=2, max_size=4))
    def create_side_by_side(self, wanted: list[Wish]) -> None:
        async def create_all() -> list[Enqueued]:
            return await asyncio.gather(
                *(self.jobs.enqueue(self.principal, self._new_job(wish)) for wish in wanted)
            )

        self._check_created(wanted, self.run(create_all()))

    def _new_job(self, wish: Wish) -> NewJob:
        now = self.now()
        delay, lifetime = wish.delay_seconds, wish.expires_in_seconds
        return NewJob(
            queue=wish.queue,
            payload="{}",
            priority=wish.priority,
            max_retries=wish.max_retries,
            run_at=None if delay is None else now + timedelta(seconds=delay),
            expires_at=None if lifetime is None else now + timedelta(seconds=lifetime),
            idempotency_key=wish.idempotency_key,
        )

    def _check_created(
        self,
        wanted: Sequence[Wish],
        answers: Sequence[Enqueued | MillstreamError],
        parent_id: UUID | None = None,
    ) -> None:
        for wish, answer in zip(wanted, answers, strict=True):
            assert isinstance(answer, Enqueued)
            assert (answer.id, answer.created) == self.reference.create(
                wish, answer.id, self.now(), parent_id
            )
            if not answer.created:
                hit = self.run(self.jobs.get(self.principal, answer.id))
                assert hit.updated_at == self.now()
        self.tick()

    # Claiming

    @rule(queue=queues, worker=workers, limit=st.integers(1, 4), seconds=lease_seconds)
    def claim(self, queue: str, worker: str, limit: int, seconds: int) -> None:
        request = ClaimRequest(queue=queue, worker_id=worker, limit=limit, lease_seconds=seconds)
        claimed = self.run(self.jobs.claim(self.principal, request))
        expected = self.reference.claimable(queue, self.now())[:limit]
        assert [job.id for job in claimed] == [job.id for job in expected]
        self._take(claimed, request)
        self.tick()

    @rule(queue=queues, limits=st.lists(st.integers(1, 3), min_size=2, max_size=4), seconds=lease_seconds)
    def claim_side_by_side(self, queue: str, limits: list[int], seconds: int) -> None:
        requests = [
            ClaimRequest(queue=queue, worker_id=WORKERS[place % 2], limit=limit, lease_seconds=seconds)
            for place, limit in enumerate(limits)
        ]

        async def claim_all() -> list[list[ClaimedJob]]:
            return await asyncio.gather(*(self.jobs.claim(self.principal, request) for request in requests))

        handed = self.run(claim_all())
        order = [job.id for job in self.reference.claimable(queue, self.now())]
        given = [job.id for claimed in handed for job in claimed]
        assert sorted(given, key=order.index) == order[: sum(limits)]
        assert len(set(given)) == len(given)
        for request, claimed in zip(requests, handed, strict=True):
            places = [order.index(job.id) for job in claimed]
            assert places == sorted(places)
            assert len(claimed) <= request.limit
            self._take(claimed, request)
        self.tick()

    def _take(self, claimed: Sequence[ClaimedJob], request: ClaimRequest) -> None:
        now = self.now()
        for job in claimed:
            reference = self.reference.jobs[job.id]
            self.reference.claim(reference, request.worker_id, job.lease_id, request.lease_seconds, now)
            assert job.lease_expires_at == reference.lease_expires_at
            assert (job.retry_count, job.max_retries) == (reference.retry_count, reference.max_retries)
        leases = [lease for job in self.reference.jobs.values() for lease in job.past_leases]
        assert len(set(leases)) == len(leases)

    @rule(
        worker=workers,
        limit=st.integers(1, 4),
        ends=st.lists(st.sampled_from(["complete", "complete", "fail", "keep"]), min_size=1, max_size=4),
    )
    def work(self, worker: str, limit: int, ends: list[str]) -> None:
        """What most workers do most of the time: claim, then settle at once."""
        self.claim(QUEUES[0], worker, limit, 30)
        for end in ends:
            if not any(job.status is Status.PROCESSING for job in self.reference.jobs.values()):
                break
            if end == "complete":
                self.complete(0, "current", True, False)
            elif end == "fail":
                self.fail(0, "current", True, False, None)

    # Settling

    @precondition(lambda self: self.reference.jobs)
    @rule(
        pick=picks,
        lease=presented,
        right_worker=st.sampled_from([True, True, True, False]),
        strict=st.booleans(),
    )
    def complete(self, pick: int, lease: str, right_worker: bool, strict: bool) -> None:
        fence, presented_lease = self._present(pick, lease, right_worker, strict)
        completion = Completion(lease=presented_lease, result="[1]")
        answer = self.run(attempt(self.jobs.complete(self.principal, completion)))
        refused = self.reference.refusal(fence, self.now())
        if refused is None:
            assert answer == Completed(fence.job_id)
            self.reference.complete(fence.job_id, "[1]", self.now())
        else:
            assert answer is refused
        self.tick()

    @precondition(lambda self: self.reference.jobs)
    @rule(
        pick=picks,
        lease=presented,
        right_worker=st.sampled_from([True, True, True, False]),
        strict=st.booleans(),
        retry_in=st.sampled_from([None, None, 0, 7]),
    )
    def fail(self, pick: int, lease: str, right_worker: bool, strict: bool, retry_in: int | None) -> None:
        fence, presented_lease = self._present(pick, lease, right_worker, strict)
        failure = Failure(lease=presented_lease, error="no luck", retry_in_seconds=retry_in)
        answer = self.run(attempt(self.jobs.fail(self.principal, failure)))
        refused = self.reference.refusal(fence, self.now())
        if refused is None:
            delay = self.reference.fail(fence.job_id, "no luck", retry_in, self.now())
            assert answer == Failed(fence.job_id, delay)
        else:
            assert answer is refused
        self.tick()

    @precondition(lambda self: self.reference.jobs)
    @rule(pick=picks, lease=presented, strict=st.booleans(), seconds=lease_seconds)
    def renew(self, pick: int, lease: str, strict: bool, seconds: int) -> None:
        fence, presented_lease = self._present(pick, lease, True, strict)
        answer = self.run(
            attempt(self.jobs.renew(self.principal, Renewal(lease=presented_lease, seconds=seconds)))
        )
        refused = self.reference.refusal(fence, self.now())
        if refused is None:
            assert answer == self.reference.renew(fence.job_id, seconds, self.now())
        else:
            assert answer is refused

    @precondition(lambda self: self.reference.jobs)
    @rule(items=st.lists(st.tuples(picks, presented, st.booleans()), min_size=1, max_size=6))
    def settle(self, items: list[tuple[int, str, bool]]) -> None:
        fences = [self._present(pick, lease, True, False) for pick, lease, _ in items]
        settlements = [
            Completion(lease=lease, result=None) if succeeds else Failure(lease=lease, error="late luck")
            for (_, lease), (_, _, succeeds) in zip(fences, items, strict=True)
        ]
        answers = self.run(self.jobs.settle(self.principal, settlements))
        told = list(zip(fences, settlements, answers, strict=True))
        # Completions are recorded first; within each kind the order is the caller's.
        for (fence, _), settlement, answer in sorted(told, key=lambda item: isinstance(item[1], Failure)):
            refused = self.reference.refusal(fence, self.now())
            if refused is not None:
                assert isinstance(answer, MillstreamError)
                assert REFUSALS[type(answer)] is refused
            elif isinstance(settlement, Completion):
                assert answer == Completed(fence.job_id)
                self.reference.complete(fence.job_id, None, self.now())
            else:
                delay = self.reference.fail(fence.job_id, "late luck", None, self.now())
                assert answer == Failed(fence.job_id, delay)
        self.tick()

    @precondition(lambda self: self.reference.jobs)
    @rule(pick=picks, callers=st.integers(2, 5))
    def complete_side_by_side(self, pick: int, callers: int) -> None:
        fence, lease = self._present(pick, "current", True, False)

        async def complete_all() -> list[Completed | Refused]:
            completion = Completion(lease=lease, result="[2]")
            return await asyncio.gather(
                *(attempt(self.jobs.complete(self.principal, completion)) for _ in range(callers))
            )

        answers = self.run(complete_all())
        refused = self.reference.refusal(fence, self.now())
        if refused is None:
            self.reference.complete(fence.job_id, "[2]", self.now())
            assert answers.count(Completed(fence.job_id)) == 1
            assert answers.count(Refused.CONFLICT) == callers - 1
        else:
            assert answers == [refused] * callers
        self.tick()

    def _present(self, pick: int, lease: str, right_worker: bool, strict: bool) -> tuple[Fence, Lease]:
        job = self.pick(pick, Status.PROCESSING)
        worker_id = (job.worker_id if right_worker else None) or "eve"
        lease_id: UUID | None
        match lease:
            case "current":
                lease_id = job.lease_id or uuid4()
            case "stale":
                lease_id = job.past_leases[0] if job.past_leases else uuid4()
            case "none":
                lease_id = None
            case _:
                lease_id = uuid4()
        mismatch = lease == "text"
        return (
            Fence(job_id=job.id, worker_id=worker_id, lease_id=lease_id, checks_end=strict),
            Lease(job_id=job.id, worker_id=worker_id, lease_id=lease_id, check_end=strict, mismatch=mismatch),
        )

    # A run of hypothesis uses some rules only; this one goes through whole lives in every run that uses it

    @rule(deeds=st.lists(st.tuples(st.sampled_from(DEEDS), picks), min_size=4, max_size=12))
    def live(self, deeds: list[tuple[str, int]]) -> None:
        for deed, pick in deeds:
            if self.reference.jobs or deed in ("create", "create_dead"):
                self._do(deed, pick)
                self.everything_visible_agrees()

    def _do(self, deed: str, pick: int) -> None:
        match deed:
            case "create":
                self.create(PLAIN)
            case "create_child":
                self.create_child(PLAIN, pick, Status.DEADLETTER)
            case "create_dead":
                self.create_dead(pick, pick > 0)
            case "claim":
                self.claim((QUEUES[0], GRAVES)[pick % 2], WORKERS[0], 1 + pick % 3, 30)
            case "complete":
                self.complete(pick, "current", True, False)
            case "fail":
                self.fail(pick, "current", True, False, None)
            case "cancel":
                self.cancel(pick)
            case "retry":
                self.retry(pick)
            case "retry_dead":
                self.retry_dead([pick], True, None)
            case _:
                self.advance(1)

    # Changing what waits, reviving and purging what is dead

    @precondition(lambda self: self.reference.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job = self.pick(pick, Status.PENDING)
        answer = self.run(attempt(self.jobs.cancel(self.principal, job.id)))
        assert answer is self.reference.cancel(job.id)

    @precondition(lambda self: self.reference.jobs)
    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        job = self.pick(pick, Status.DEADLETTER)
        answer = self.run(attempt(self.jobs.retry(self.principal, job.id)))
        refused = self.reference.retry(job.id)
        assert (answer if isinstance(answer, Refused) else None) is refused
        self.tick()

    @rule(
        selected=st.lists(picks, max_size=4),
        by_id=st.booleans(),
        queue=st.sampled_from([None, *QUEUES, GRAVES]),
    )
    def retry_dead(self, selected: list[int], by_id: bool, queue: str | None) -> None:
        ids: list[UUID] | None = None
        limit = 1 + len(selected)
        if by_id and selected and self.reference.jobs:
            ids = list(dict.fromkeys(self.pick(pick, Status.DEADLETTER).id for pick in selected))
            limit = 100
        selection = DeadSelection(job_ids=None if ids is None else tuple(ids), queue=queue, limit=limit)
        revived = self.run(self.jobs.retry_dead(self.principal, selection))
        assert revived.job_ids == self.reference.retry_dead(ids, queue, limit)
        self.tick()

    @rule(
        queue=st.sampled_from([None, *QUEUES, GRAVES]),
        limit=st.integers(1, 3),
        seconds=st.sampled_from([None, 0, 20]),
    )
    def purge(self, queue: str | None, limit: int, seconds: int | None) -> None:
        before = None if seconds is None else self.now() - timedelta(seconds=seconds)
        selection = DeadSelection(queue=queue, created_before=before, limit=limit)
        purged = self.run(self.jobs.purge_dead(self.principal, selection))
        assert purged == self.reference.purge(queue, before, limit)

    @precondition(lambda self: self.reference.jobs)
    @rule(pick=picks, priority=st.integers(-1, 2))
    def set_priority(self, pick: int, priority: int) -> None:
        job = self.pick(pick, Status.PENDING)
        answer = self.run(attempt(self.jobs.set_priority(self.principal, job.id, priority)))
        assert answer == self.reference.set_priority(job.id, priority)

    # Queues

    @rule(queue=queues, paused=st.sampled_from([False, False, False, True]))
    def set_paused(self, queue: str, paused: bool) -> None:
        if paused:
            self.run(self.engine.queues.pause(self.principal, queue, None))
            self.reference.paused.add(queue)
        else:
            self.run(attempt(self.engine.queues.resume(self.principal, queue)))
            self.reference.paused.discard(queue)

    @rule(
        queue=queues,
        max_retries=st.integers(0, 2),
        backoff=st.sampled_from(
            [Backoff(initial=5, factor=1.5, longest=20), Backoff(initial=1, factor=3.0, longest=4)]
        ),
    )
    def configure(self, queue: str, max_retries: int, backoff: Backoff) -> None:
        change = QueueChange(
            max_retries=max_retries,
            retry_initial_seconds=backoff.initial,
            retry_factor=backoff.factor,
            retry_max_seconds=backoff.longest,
        )
        self.run(self.engine.queues.configure(self.principal, queue, change))
        self.reference.queue_retries[queue] = max_retries
        self.reference.backoffs[queue] = backoff

    # Time and the loops that it drives

    @rule(seconds=st.sampled_from([0, 1, 1, 4, 10, 61]))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(pick=picks, microseconds=st.sampled_from([-1, 0, 1]))
    def advance_to_a_deadline(self, pick: int, microseconds: int) -> None:
        coming = [moment for moment in self.reference.deadlines() if moment > self.now()]
        if coming:
            moment = coming[pick % len(coming)] + timedelta(microseconds=microseconds)
            self.clock.advance(max(0.0, (moment - self.now()).total_seconds()))

    @rule()
    def reap(self) -> None:
        outcomes = self.run(self.engine.settling.reap())
        assert len(outcomes) == self.reference.reap(self.now())
        self.tick()

    @rule()
    def expire(self) -> None:
        expired = self.run(self.jobs.expire(limit=EVERYTHING))
        assert expired == self.reference.expire(self.now())

    @rule()
    def promote(self) -> None:
        self.run(self.engine.claiming.promote())
        self.reference.promote(self.now())
        listed = self.run(self.jobs.list(self.principal, JobFilter(limit=EVERYTHING)))
        for job in listed.jobs:
            assert STATUSES[job.state] is self.reference.jobs[job.id].visible_status
