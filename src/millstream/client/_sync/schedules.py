"""Schedules: jobs that are created by the clock."""

from dataclasses import dataclass

from millstream.client._sync.transport import Transport
from millstream.client.errors import NotFound
from millstream.client.requests import body_of, query_of, segment
from millstream.client.types import Schedule, ScheduleRun, ScheduleTriggered


@dataclass(frozen=True, slots=True)
class Schedules:
    """`client.schedules`."""

    _transport: Transport

    def create(
        self,
        name: str,
        cron: str,
        queue: str,
        payload: object,
        *,
        timezone: str | None = None,
        description: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        tags: object = None,
        metadata: object = None,
    ) -> Schedule:
        """Have a job of `payload` created in `queue` at every time that `cron` matches.

        `cron` has five fields, or six with the seconds first; it is held against the clock of `timezone`
        (an IANA name or `+hh:mm`, UTC unless given). The other options are those of `jobs.enqueue`, but for
        `max_retries` (3) and `timeout_seconds` (300) the queue's defaults do not count. Raises
        ValidationFailed, AccessDenied, PayloadTooLarge, QuotaExceeded. Contract: spooled-jobs 6.1.
        """
        body = body_of(
            name=name,
            cron_expression=cron,
            queue_name=queue,
            timezone=timezone,
            description=description,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            tags=tags,
            metadata=metadata,
        )
        # JSON null is a payload like any other.
        body["payload_template"] = payload
        return self._transport.call(Schedule, "POST", "/api/v1/schedules", body=body)

    def get(self, schedule_id: str) -> Schedule:
        """Return a schedule. Raises NotFound."""
        return self._transport.call(Schedule, "GET", _path(schedule_id))

    def update(
        self,
        schedule_id: str,
        *,
        name: str | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        payload: object = None,
        description: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        tags: object = None,
        metadata: object = None,
    ) -> Schedule:
        """Change what is given of a schedule; its queue stays. Raises NotFound and what `create` does."""
        body = body_of(
            name=name,
            cron_expression=cron,
            timezone=timezone,
            payload_template=payload,
            description=description,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            tags=tags,
            metadata=metadata,
        )
        return self._transport.call(Schedule, "PUT", _path(schedule_id), body=body, replay_safe=True)

    def pause(self, schedule_id: str) -> Schedule:
        """Let a schedule run no more by the clock. Raises NotFound."""
        return self._transport.call(Schedule, "POST", f"{_path(schedule_id)}/pause", replay_safe=True)

    def resume(self, schedule_id: str) -> Schedule:
        """Let a paused schedule go on from now; what it missed stays missed. Raises NotFound, QuotaExceeded."""
        return self._transport.call(Schedule, "POST", f"{_path(schedule_id)}/resume", replay_safe=True)

    def trigger(self, schedule_id: str) -> ScheduleTriggered:
        """Create the job of a schedule now, paused or not. Raises NotFound, QuotaExceeded."""
        return self._transport.call(ScheduleTriggered, "POST", f"{_path(schedule_id)}/trigger")

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule and its runs; its jobs stay. Raises NotFound."""
        try:
            self._transport.send("DELETE", _path(schedule_id), replay_safe=True)
        except NotFound as error:
            # On a second try it is gone because of the first one, whose answer was lost.
            if error.attempt == 1:
                raise

    def history(self, schedule_id: str, *, limit: int = 50) -> list[ScheduleRun]:
        """Return the newest runs (`limit` up to 500) of a schedule. Raises NotFound."""
        return self._transport.call(
            list[ScheduleRun], "GET", f"{_path(schedule_id)}/history", params=query_of(limit=limit)
        )

    # The last one: below it, `list` would name this method in annotations.
    def list(
        self,
        *,
        queue: str | None = None,
        is_active: bool | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Schedule]:
        """Return one page (`limit` up to 500), newest first. Contract: spooled-jobs 6."""
        params = query_of(queue_name=queue, is_active=is_active, limit=limit, offset=offset)
        return self._transport.call(list[Schedule], "GET", "/api/v1/schedules", params=params)


def _path(schedule_id: str) -> str:
    return f"/api/v1/schedules/{segment(schedule_id)}"
