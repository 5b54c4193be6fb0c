"""Lists of jobs: filters, order, pages. Contract: spooled-jobs 1.7, 3.2."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from millstream.api.http.endpoint import Parameter, Response
from millstream.api.http.query import Query
from millstream.api.spooled.rules import QUEUE_NAME
from millstream.domain import limits
from millstream.domain.job import JobFilter, JobOrder, JobState
from millstream.domain.tenant import Principal

_PAGE_ROWS = 50
_ORDERS = {
    "created_at": JobOrder.CREATED_AT,
    "updated_at": JobOrder.UPDATED_AT,
    "scheduled_at": JobOrder.RUN_AT,
    "completed_at": JobOrder.COMPLETED_AT,
    "priority": JobOrder.PRIORITY,
    "status": JobOrder.STATE,
    "queue_name": JobOrder.QUEUE,
    "retry_count": JobOrder.RETRY_COUNT,
}
_HAS_MORE = ((b"x-has-more", b"true"),)
_HAS_NO_MORE = ((b"x-has-more", b"false"),)

PAGE = (
    Parameter(name="limit", kind="integer", description="rows of the page; clamped"),
    Parameter(name="offset", kind="integer", description="rows before the page"),
)
FILTERS = (
    Parameter(name="queue_name", description="exact"),
    Parameter(name="q", description="head of the id, or part of the queue name or job type, in any case"),
    Parameter(name="job_type", description="exact"),
    Parameter(name="created_after", kind="timestamp", description="inclusive"),
    Parameter(name="created_before", kind="timestamp", description="exclusive"),
    Parameter(
        name="tag", description="an item of a list of tags, a key of an object of tags, or the tag itself"
    ),
    Parameter(name="order_by", description=", ".join(_ORDERS)),
    Parameter(name="order_dir", description="desc (default) or asc"),
    *PAGE,
)


def job_filter(query: Query, principal: Principal, states: tuple[JobState, ...] | None) -> JobFilter:
    """Return the filter that a query describes. Raises BadRequest for times and numbers that are none."""
    queue = query.text("queue_name")
    if queue is not None and QUEUE_NAME.fullmatch(queue) is None:
        queue = None
    return JobFilter(
        queues=principal.visible_queues,
        queue=queue,
        states=states,
        search=query.text("q", limits.SEARCH_CHARS_MAX) or None,
        job_type=query.text("job_type", limits.SEARCH_CHARS_MAX) or None,
        created_from=query.timestamp("created_after"),
        created_before=query.timestamp("created_before"),
        tag=query.text("tag", limits.TAG_CHARS_MAX) or None,
        order=_ORDERS.get(query.text("order_by") or "", JobOrder.CREATED_AT),
        descending=query.text("order_dir") != "asc",
        limit=query.clamped("limit", _PAGE_ROWS, 1, limits.PAGE_ROWS_MAX),
        offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
    )


def page_response(rows: Sequence[Struct], *, has_more: bool) -> Response:
    """Return a page: a bare array, with a header that tells whether more rows follow."""
    return Response(200, msgspec.json.encode(rows), _HAS_MORE if has_more else _HAS_NO_MORE)
