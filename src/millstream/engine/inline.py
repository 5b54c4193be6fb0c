"""Takes note of what callers did inside transactions of their own: jobs they created, messages they published."""

import asyncio

import structlog

from millstream.domain import limits
from millstream.domain.errors import MillstreamError
from millstream.domain.job import JobState
from millstream.domain.message import NewMessage
from millstream.domain.topic import Topic
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.engine.context import Context
from millstream.engine.events import EventKind
from millstream.engine.publishing import Publishing
from millstream.engine.upkeep import Direct
from millstream.store import inline
from millstream.store.inline import InlineJob

_log = structlog.get_logger(__name__)


class InlineIntake:
    """Brings what callers committed by themselves to where requests would have brought it.

    A job needs this only to be listed by its labels, counted, and told of; workers claim it without. `hint` is set when
    a caller commits; a lost hint costs a second.
    """

    def __init__(self, context: Context, publishing: Publishing, direct: Direct) -> None:
        self._context = context
        self._publishing = publishing
        self._direct = direct
        self._listening: asyncio.Task[None] | None = None
        self.hint = asyncio.Event()

    async def take(self) -> int:
        """Take note of a batch of what was committed; a full one means that there may be more."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="inline listener")
        return max(await self._take_jobs(), await self._append_messages())

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            await inline.listen(self._direct, self.hint.set)
        except MillstreamError as error:
            _log.info("not told of inline calls, looking for them", reason=error.message)

    async def _take_jobs(self) -> int:
        async with self._context.database.transaction() as session:
            taken = await inline.take_jobs(session, limit=limits.INLINE_ROWS_MAX)
            await self._context.outbox.note(session, [_note_of(job) for job in taken])
        self._announce(taken)
        return len(taken)

    async def _append_messages(self) -> int:
        async with self._context.database.transaction() as session:
            staged = await inline.take_messages(session, limit=limits.INLINE_ROWS_MAX)
            topics: dict[int, Topic] = {}
            messages: dict[int, list[NewMessage]] = {}
            for one in staged:
                if one.topic is not None:
                    topics[one.topic.id] = one.topic
                    messages.setdefault(one.topic.id, []).append(one.message)
            # The partitions are locked in their order.
            for topic_id in sorted(topics, key=lambda topic_id: (topics[topic_id].tenant_id, topic_id)):
                # A topic that was deleted takes its messages with it.
                await self._publishing.append_committed(session, topics[topic_id], messages[topic_id])
        for topic in topics.values():
            self._publishing.announce(topic.tenant_id, (topic.id,))
        return len(staged)

    def _announce(self, taken: list[InlineJob]) -> None:
        ready: dict[tuple[int, str], int] = {}
        for job in taken:
            self._context.tell(EventKind.JOB_CREATED, job.tenant_id, job.queue, job.id)
            if not job.delayed:
                key = (job.tenant_id, job.queue)
                ready[key] = ready.get(key, 0) + 1
        self._context.meters.enqueued(len(taken))
        for (tenant_id, queue), count in ready.items():
            self._context.wakeups.wake(tenant_id, queue, count)
        if any(job.delayed for job in taken):
            self._context.delayed()


def _note_of(job: InlineJob) -> JobNote:
    state = JobState.SCHEDULED if job.delayed else JobState.READY
    return JobNote(job.tenant_id, job.id, WebhookEvent.JOB_CREATED, state)
