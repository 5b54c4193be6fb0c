"""Jobs and messages within the caller's own transaction, on the database that a millstream server runs on.

    with psycopg.connect(...) as connection:
        connection.execute("insert into orders ...")
        millstream.inline.enqueue(connection, "invoices", {"order": 7})
        millstream.inline.publish(connection, "orders", "order 7 was placed", key="7")

What the transaction wrote, the job and the message exist together, or none of them does. The connection may be one of
psycopg 3, asyncpg or SQLAlchemy; nothing here begins, commits or rolls back anything.
"""

from millstream.inline.calls import enqueue, enqueue_async, publish, publish_async
from millstream.inline.errors import InlineError, InvalidArgument, TooLarge, Unknown

__all__ = [
    "InlineError",
    "InvalidArgument",
    "TooLarge",
    "Unknown",
    "enqueue",
    "enqueue_async",
    "publish",
    "publish_async",
]
