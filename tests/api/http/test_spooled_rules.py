import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.api.spooled.enqueue import job_type_of
from millstream.api.spooled.rules import Rules, without_controls
from millstream.api.spooled.translate import STATES_OF_WORD, settings_without_pause
from millstream.domain.errors import InvalidField
from millstream.domain.job import JobState


@pytest.mark.parametrize(
    ("payload", "job_type"),
    [
        ('{"job_type":"send"}', "send"),
        ('{"a":{"job_type":"inner"},"job_type":"outer"}', "outer"),
        ('{"a":{"job_type":"inner"}}', ""),
        ('{"job_type":"first","job_type":"last"}', "last"),
        (r'{"job\u005ftype":"hidden"}', "hidden"),
        (r'{"job_type":"caf\u00e9 \"x\""}', 'café "x"'),
        ('{"job_type":5}', ""),
        ('{"job_type":null}', ""),
        ('{"job_type":["send"]}', ""),
        ('["job_type"]', ""),
        ('"job_type"', ""),
        ("null", ""),
        ("{}", ""),
        ('{"job_type":"' + "x" * 300 + '"}', "x" * 255),
    ],
)
def test_the_job_type_is_the_string_at_the_top_of_the_payload(payload, job_type):
    assert job_type_of(payload) == job_type


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_payload_makes_the_job_type_raise(value):
    job_type_of(msgspec.json.encode(value).decode())


def test_every_wire_status_stands_for_its_states():
    assert STATES_OF_WORD == {
        "pending": (JobState.READY, JobState.RETRYING, JobState.BLOCKED),
        "scheduled": (JobState.SCHEDULED,),
        "processing": (JobState.RUNNING,),
        "completed": (JobState.COMPLETED,),
        "failed": (),
        "deadletter": (JobState.DEAD,),
        "cancelled": (JobState.CANCELLED,),
    }


def test_all_broken_rules_are_reported_together():
    rules = Rules()
    rules.queue_name("queue_name", ".x")
    rules.integer("priority", 101, -100, 100)
    rules.integer("max_retries", None, 0, 100)
    assert rules.timestamp("scheduled_at", "soon") is None
    rules.text("error", "", 1, 2048)

    with pytest.raises(InvalidField) as refused:
        rules.enforce()
    assert [problem.field for problem in refused.value.problems] == [
        "queue_name",
        "priority",
        "scheduled_at",
        "error",
    ]


def test_control_characters_go_and_white_space_stays():
    assert without_controls("a\x1b[31m\tb\r\nc\x7f\x9f d é") == "a[31m\tb\r\nc d é"


def test_settings_that_were_read_while_paused_lose_the_marks_when_sent_back():
    text = '{"a":12345678901234567890123,"paused":true,"paused_at":"x","paused_reason":null}'

    assert settings_without_pause(text) == '{"a":12345678901234567890123}'
    assert settings_without_pause('["paused"]') == '["paused"]'
