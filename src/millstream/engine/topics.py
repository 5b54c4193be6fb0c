"""Topics: configuration, and the partitions they consist of."""

from collections.abc import Awaitable, Callable, Sequence

from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.tenant import Principal
from millstream.domain.topic import Topic, TopicStatus, check_topic_name
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.store import topics
from millstream.store.database import Session

TOPIC_NOT_FOUND = "topic not found"

Changed = Callable[[Session, int, int], Awaitable[Sequence[int]]]
"""Rebalances, within a transaction, the groups of a topic (tenant, topic) that was deleted or has more partitions.

Returns their ids, to be woken after the commit.
"""
Wake = Callable[[int, Sequence[int]], None]
"""Has everybody look who waits for something of some groups of a tenant."""


async def _no_groups(_session: Session, _tenant_id: int, _topic_id: int) -> Sequence[int]:
    return ()


def _wake_nobody(_tenant_id: int, _group_ids: Sequence[int]) -> None:
    return None


class Topics:
    """The topics of all tenants, each seen through a principal of its own."""

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._settings = settings
        self._changed: Changed = _no_groups
        self._wake: Wake = _wake_nobody
        # By tenant and name, for as long as nobody changes one of the tenant's.
        self._known: dict[int, dict[str, Topic]] = {}
        self._count = 0
        self._forgotten = 0
        context.invalidations.register(self.forget)

    def on_change(self, changed: Changed, wake: Wake) -> None:
        """Have `changed` called in the transactions that delete topics or add partitions, and `wake` after them."""
        self._changed = changed
        self._wake = wake

    async def create(
        self,
        principal: Principal,
        name: str,
        partitions: int | None = None,
        retention_hours: int | None = None,
    ) -> Topic:
        """Create a topic; numbers that are not above 0 mean the defaults. Contract: goqueue-messaging 3.1.

        Raises BadRequest, or Conflict when the name is taken.
        """
        check_topic_name(name)
        if partitions is None or partitions <= 0:
            partitions = self._settings.default_partitions
        if partitions > self._settings.partitions_max:
            raise BadRequest(f"too many partitions: {self._settings.partitions_max} at most")
        if retention_hours is None or retention_hours <= 0:
            retention_hours = self._settings.default_retention_hours
        if retention_hours > limits.RETENTION_HOURS_MAX:
            raise BadRequest(f"retention_hours is above {limits.RETENTION_HOURS_MAX}")
        async with self._context.database.tenant(principal.tenant_id) as session:
            topic = await self._create(session, principal.tenant_id, name, partitions, retention_hours)
        if topic is None:
            raise Conflict("topic already exists")
        return topic

    async def find_or_create(
        self, session: Session, tenant_id: int, name: str, *, partitions: int, retention_hours: int
    ) -> Topic:
        """Return a topic, created within the caller's transaction if there is none of that name.

        Limits of names and numbers are for those who create topics by themselves: none counts here.
        """
        while True:
            found = await topics.find_topic(session, tenant_id, name)
            topic = found or await self._create(session, tenant_id, name, partitions, retention_hours)
            # Somebody else's creation was not visible yet, then it was in the way: now it is there.
            if topic is not None:
                return topic

    async def get(self, principal: Principal, name: str) -> Topic:
        """Return a topic; from memory, which every process keeps in step with changes. Raises NotFound."""
        of_tenant = self._known.get(principal.tenant_id)
        topic = None if of_tenant is None else of_tenant.get(name)
        return topic or await self._look_up(principal.tenant_id, name)

    async def list_names(self, principal: Principal) -> list[str]:
        """Return the names of all topics, sorted, without internal ones. Contract: goqueue-messaging 3.2."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await topics.list_topic_names(session, principal.tenant_id)

    async def describe(self, principal: Principal, name: str) -> TopicStatus:
        """Return a topic and how far its partitions reach. Raises NotFound. Contract: goqueue-messaging 3.3."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            topic = await topics.find_topic(session, principal.tenant_id, name)
            if topic is None:
                raise NotFound(TOPIC_NOT_FOUND)
            partitions = await topics.list_partitions(session, principal.tenant_id, topic.id)
        if not partitions:
            raise NotFound(TOPIC_NOT_FOUND)
        return TopicStatus(topic=topic, partitions=partitions)

    async def delete(self, principal: Principal, name: str) -> None:
        """Delete a topic with all that groups know of it; a loop removes its messages. Raises NotFound.

        Contract: goqueue-messaging 3.4.
        """
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            topic = await topics.find_topic(session, tenant_id, name)
            if topic is None:
                raise NotFound(TOPIC_NOT_FOUND)
            if not await topics.mark_topic_deleted(session, tenant_id, topic.id, self._context.now()):
                raise NotFound(TOPIC_NOT_FOUND)
            groups = await self._changed(session, tenant_id, topic.id)
            await topics.delete_partitions(session, tenant_id, topic.id)
        self._wake(tenant_id, groups)
        await self._context.invalidations.tenant_changed(tenant_id)

    async def add_partitions(self, principal: Principal, name: str, count: int) -> tuple[int, int]:
        """Raise the number of partitions to `count`; returns what it was and what it is.

        Raises NotFound, or BadRequest when that is not more or too many. Contract: goqueue-messaging 13.1.
        """
        tenant_id = principal.tenant_id
        if name.startswith("__"):
            raise BadRequest("internal topics cannot be scaled")
        if count <= 0:
            raise BadRequest("count must be above 0")
        if count > self._settings.partitions_max:
            raise BadRequest(f"too many partitions: {self._settings.partitions_max} at most")
        async with self._context.database.tenant(tenant_id) as session:
            topic = await topics.find_topic(session, tenant_id, name)
            if topic is None:
                raise NotFound(TOPIC_NOT_FOUND)
            before = await topics.add_partitions(session, tenant_id, topic.id, count)
            if before is None:
                raise NotFound(TOPIC_NOT_FOUND)
            if before >= count:
                raise BadRequest(f"count must be greater than the current {before} partitions")
            groups = await self._changed(session, tenant_id, topic.id)
        self._wake(tenant_id, groups)
        await self._context.invalidations.tenant_changed(tenant_id)
        return before, count

    def forget(self, tenant_id: int) -> None:
        """Look a tenant's topics up again."""
        self._forgotten += 1
        self._count -= len(self._known.pop(tenant_id, ()))

    async def _create(
        self, session: Session, tenant_id: int, name: str, partitions: int, retention_hours: int
    ) -> Topic | None:
        return await topics.create_topic(
            session,
            tenant_id,
            name,
            partitions=partitions,
            retention_hours=retention_hours,
            now=self._context.now(),
        )

    async def _look_up(self, tenant_id: int, name: str) -> Topic:
        forgotten = self._forgotten
        async with self._context.database.tenant(tenant_id) as session:
            topic = await topics.find_topic(session, tenant_id, name)
        if topic is None:
            raise NotFound(TOPIC_NOT_FOUND)
        # What was changed since it was read is not remembered.
        if forgotten == self._forgotten:
            if self._count >= limits.REMEMBERED_TOPICS_MAX:
                self._known.clear()
                self._count = 0
            of_tenant = self._known.setdefault(tenant_id, {})
            self._count += name not in of_tenant
            of_tenant[name] = topic
        return topic
