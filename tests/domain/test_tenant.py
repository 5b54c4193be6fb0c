import itertools
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain import limits
from millstream.domain.plan import PLANS, plan_of
from millstream.domain.slug import RESERVED_SLUGS, is_valid_slug
from millstream.domain.tenant import Principal


def principal(queues: frozenset[str] | None) -> Principal:
    return Principal(tenant_id=1, organization_id="o", api_key_id=uuid4(), plan=PLANS["free"], queues=queues)


@pytest.mark.parametrize("slug", ["abc", "acme-inc", "a1b", "a-1-b", "a" * 50, "team-42"])
def test_a_slug_is_hyphenated_groups_of_small_letters_and_digits(slug: str) -> None:
    assert is_valid_slug(slug)


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "ab",
        "a" * 51,
        "Acme",
        "1abc",
        "-abc",
        "abc-",
        "a--b",
        "a_b",
        "a.b",
        "a b",
        "añb",
        "abc\n",
        "١٢٣",
        *sorted(RESERVED_SLUGS),
    ],
)
def test_anything_else_is_no_slug(slug: str) -> None:
    assert not is_valid_slug(slug)


@given(slug=st.from_regex(r"[a-z][a-z0-9]{2,10}(-[a-z0-9]{1,10}){0,3}", fullmatch=True))
def test_every_slug_of_that_form_is_valid_unless_reserved(slug: str) -> None:
    assert is_valid_slug(slug) == (slug not in RESERVED_SLUGS)


def test_an_unrestricted_key_reaches_every_queue() -> None:
    key = principal(None)
    assert key.permits("anything")
    assert key.visible_queues is None


def test_a_restricted_key_reaches_its_queues_only() -> None:
    key = principal(frozenset({"b", "a"}))
    assert key.permits("a")
    assert key.permits("b")
    assert not key.permits("c")
    assert key.visible_queues == ("a", "b")


def test_an_unknown_tier_is_the_free_one() -> None:
    assert plan_of("nobody-sells-this") is PLANS["free"]
    assert plan_of("pro") is PLANS["pro"]


def test_each_plan_allows_at_least_what_the_one_below_allows() -> None:
    order = ["free", "starter", "pro", "enterprise"]
    fields = [
        name
        for name in PLANS["free"].__struct_fields__
        if name.startswith(("max_", "rate_limit_", "job_", "history_"))
    ]
    for lower, higher in itertools.pairwise(order):
        assert PLANS[lower].upgrade_to == higher
        for name in fields:
            below, above = getattr(PLANS[lower], name), getattr(PLANS[higher], name)
            assert above is None or below <= above, (lower, name)


def test_a_page_and_a_batch_fit_what_a_queue_of_requests_holds() -> None:
    assert limits.BULK_JOBS_MAX <= limits.BATCH_ROWS_MAX <= limits.BATCH_QUEUE_ROWS_MAX
    assert limits.SETTLE_ITEMS_MAX <= limits.BATCH_QUEUE_ROWS_MAX
    assert limits.PAYLOAD_BYTES_MAX < limits.BATCH_BYTES_MAX <= limits.BATCH_QUEUE_BYTES_MAX
    assert limits.PAYLOAD_BYTES_MAX < limits.BODY_BYTES_MAX
