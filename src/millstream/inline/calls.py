"""`enqueue` and `publish`, for connections of synchronous and of asynchronous drivers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from millstream import drivers
from millstream.inline.errors import InvalidArgument, refusal_of

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

_ENQUEUE: Final = (
    "select cast(millstream.enqueue_v1("
    "queue => cast(:queue as text), payload => cast(cast(:payload as text) as json),"
    " job_type => cast(:job_type as text), priority => cast(:priority as int),"
    " max_retries => cast(:max_retries as int), timeout_seconds => cast(:timeout_seconds as int),"
    " run_at => cast(cast(:run_at as text) as timestamptz),"
    " expires_at => cast(cast(:expires_at as text) as timestamptz),"
    " idempotency_key => cast(:idempotency_key as text), tags => cast(cast(:tags as text) as json),"
    " organization => cast(:organization as text)) as text)"
)
_PUBLISH: Final = (
    "select cast(millstream.publish_v1("
    "topic => cast(:topic as text), value => cast(:value as text), key => cast(:key as text),"
    " headers => cast(cast(:headers as text) as json), partition => cast(:partition as int),"
    " priority => cast(:priority as text), delay => make_interval(secs => cast(:delay_seconds as float8)),"
    " deliver_at => cast(cast(:deliver_at as text) as timestamptz),"
    " organization => cast(:organization as text)) as text)"
)


def enqueue(
    connection: object,
    queue: str,
    payload: JsonValue,
    *,
    job_type: str | None = None,
    priority: int = 0,
    max_retries: int | None = None,
    timeout_seconds: int | None = None,
    run_at: datetime | None = None,
    expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    tags: Mapping[str, JsonValue] | Sequence[JsonValue] | None = None,
    organization: str | None = None,
) -> UUID:
    """Create a job in the transaction of `connection` and return its id, or that of the job that holds the key.

    Workers may claim it as soon as the transaction commits. `organization` is an id or slug; without one it is the
    organization of the server's first start. What is not given comes from the queue's configuration. Caps of a plan
    are not applied: whoever may write to the database decides. Raises InvalidArgument, TooLarge, Unknown, or what the
    driver raises.
    """
    arguments = _job_arguments(
        queue, payload, job_type, priority, max_retries, timeout_seconds, run_at, expires_at, idempotency_key, tags,
        organization,
    )  # fmt: skip
    return _id_of(_call(connection, _ENQUEUE, arguments))


async def enqueue_async(
    connection: object,
    queue: str,
    payload: JsonValue,
    *,
    job_type: str | None = None,
    priority: int = 0,
    max_retries: int | None = None,
    timeout_seconds: int | None = None,
    run_at: datetime | None = None,
    expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    tags: Mapping[str, JsonValue] | Sequence[JsonValue] | None = None,
    organization: str | None = None,
) -> UUID:
    """Do what `enqueue` does, on a connection of an asynchronous driver."""
    arguments = _job_arguments(
        queue, payload, job_type, priority, max_retries, timeout_seconds, run_at, expires_at, idempotency_key, tags,
        organization,
    )  # fmt: skip
    return _id_of(await _call_async(connection, _ENQUEUE, arguments))


def publish(
    connection: object,
    topic: str,
    value: str,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    partition: int | None = None,
    priority: str = "normal",
    delay_seconds: float | None = None,
    deliver_at: datetime | None = None,
    organization: str | None = None,
) -> None:
    """Publish a message in the transaction of `connection`: it is appended to its partition after the commit.

    A message that was published after another transaction's commit comes after that one's. A delay counts from the
    begin of the transaction. Raises InvalidArgument, TooLarge, Unknown, or what the driver raises.
    """
    _call(
        connection,
        _PUBLISH,
        _message_arguments(
            topic, value, key, headers, partition, priority, delay_seconds, deliver_at, organization
        ),
    )


async def publish_async(
    connection: object,
    topic: str,
    value: str,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    partition: int | None = None,
    priority: str = "normal",
    delay_seconds: float | None = None,
    deliver_at: datetime | None = None,
    organization: str | None = None,
) -> None:
    """Do what `publish` does, on a connection of an asynchronous driver."""
    await _call_async(
        connection,
        _PUBLISH,
        _message_arguments(
            topic, value, key, headers, partition, priority, delay_seconds, deliver_at, organization
        ),
    )


def _job_arguments(
    queue: str,
    payload: JsonValue,
    job_type: str | None,
    priority: int,
    max_retries: int | None,
    timeout_seconds: int | None,
    run_at: datetime | None,
    expires_at: datetime | None,
    idempotency_key: str | None,
    tags: JsonValue,
    organization: str | None,
) -> dict[str, object]:
    return {
        "queue": queue,
        "payload": _json(payload, "payload"),
        "job_type": job_type,
        "priority": priority,
        "max_retries": max_retries,
        "timeout_seconds": timeout_seconds,
        "run_at": _time(run_at, "run_at"),
        "expires_at": _time(expires_at, "expires_at"),
        "idempotency_key": idempotency_key,
        "tags": None if tags is None else _json(tags, "tags"),
        "organization": organization,
    }


def _message_arguments(
    topic: str,
    value: str,
    key: str | None,
    headers: Mapping[str, str] | None,
    partition: int | None,
    priority: str,
    delay_seconds: float | None,
    deliver_at: datetime | None,
    organization: str | None,
) -> dict[str, object]:
    for name, text in (("value", value), ("key", key)):
        if text is not None:
            _check_text(text, name)
    return {
        "topic": topic,
        "value": value,
        "key": key,
        "headers": None if headers is None else _json(headers, "headers"),
        "partition": partition,
        "priority": priority,
        "delay_seconds": None if delay_seconds is None else float(delay_seconds),
        "deliver_at": _time(deliver_at, "deliver_at"),
        "organization": organization,
    }


def _json(value: JsonValue, name: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name}: {error}") from error


def _check_text(text: str, name: str) -> None:
    if "\0" in text:
        raise InvalidArgument(f"{name}: PostgreSQL's text cannot hold NUL; publish it over HTTP")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name}: {error}") from error


def _time(moment: datetime | None, name: str) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidArgument(f"{name}: a time needs its zone")
    return moment.isoformat()


def _id_of(rows: drivers.Rows) -> UUID:
    return UUID(rows[0][0])


def _call(connection: object, sql: str, arguments: dict[str, object]) -> drivers.Rows:
    try:
        return drivers.execute(connection, sql, arguments)
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error


async def _call_async(connection: object, sql: str, arguments: dict[str, object]) -> drivers.Rows:
    try:
        return await drivers.execute_async(connection, sql, arguments)
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error
