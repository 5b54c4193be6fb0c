"""Contract: spooled-tenancy 7.4, 19.2 B8."""

import pytest

from millstream.domain import custom_limits
from millstream.domain.errors import InvalidField, InvalidShape


def test_known_limits_override_and_everything_else_is_left_out() -> None:
    text = '{"max_queues": 0, "rate_limit_burst": 2147483647, "max_workers": null, "tier": "pro", "what": "ever"}'
    assert custom_limits.parse(text) == {"max_queues": 0, "rate_limit_burst": 2_147_483_647}


def test_of_a_repeated_key_the_last_counts() -> None:
    assert custom_limits.parse('{"max_queues": 1, "max_queues": 2}') == {"max_queues": 2}


@pytest.mark.parametrize(
    "value",
    ["-1", "2147483648", "4294967296", "1" + "0" * 30, "1.0", "1.5", '"5"', "true", "[]", "{}"],
)
def test_what_is_no_limit_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidField) as caught:
        custom_limits.parse(f'{{"max_jobs_per_day": {value}, "max_queues": 1}}')
    assert [problem.field for problem in caught.value.problems] == ["custom_limits.max_jobs_per_day"]


@pytest.mark.parametrize("text", ["[]", "1", '"text"', "true"])
def test_what_is_no_object_is_of_the_wrong_type(text: str) -> None:
    with pytest.raises(InvalidShape):
        custom_limits.parse(text)
