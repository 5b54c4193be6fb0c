"""What processes tell each other, as messages."""

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from millstream.domain import limits
from millstream.engine.hints import (
    Acknowledged,
    Changed,
    Hello,
    Hint,
    Listens,
    Outbox,
    Ping,
    Ready,
    Waits,
    Written,
    pack,
    parse_message,
)
from millstream.store.relay import NOTIFY_BYTES_MAX

ME = uuid4()
numbers = st.integers(1, 2**31 - 1)
queues = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=255)
hints: st.SearchStrategy[Hint] = st.one_of(
    st.builds(Ready, numbers, queues, numbers),
    st.builds(Waits, numbers, queues),
    st.builds(Listens, numbers),
    st.builds(Changed, numbers, numbers),
    st.builds(Acknowledged, st.uuids(), numbers),
    st.builds(Written, numbers, numbers),
    st.just(Hello()),
    st.just(Ping()),
)


def unpack(messages: list[str]) -> list[Hint]:
    found: list[Hint] = []
    for text in messages:
        message = parse_message(text)
        assert message is not None
        assert message.sender == ME
        found += message.hints
    return found


@given(st.lists(hints, max_size=60))
def test_hints_arrive_whole_and_in_order_in_messages_that_fit(given_hints: list[Hint]) -> None:
    messages = pack(ME, given_hints, NOTIFY_BYTES_MAX)
    assert all(len(message.encode()) <= NOTIFY_BYTES_MAX for message in messages)
    assert unpack(messages) == given_hints


def test_many_hints_fill_their_messages() -> None:
    waits: list[Hint] = [Waits(number, "q" * 200) for number in range(1_000, 2_000)]
    messages = pack(ME, waits, NOTIFY_BYTES_MAX)
    assert all(len(message) > NOTIFY_BYTES_MAX - 300 for message in messages[:-1])
    assert unpack(messages) == waits


def test_jobs_of_one_queue_are_told_in_one_number() -> None:
    outbox = Outbox(ME)
    for jobs in (1, 2, 3):
        outbox.put_ready(1, "q", jobs)
    outbox.put_ready(2, "q", 5)
    outbox.put(Listens(1))
    outbox.put(Listens(1))
    assert outbox.filled.is_set()
    assert unpack(outbox.take(NOTIFY_BYTES_MAX)) == [Listens(1), Ready(1, "q", 6), Ready(2, "q", 5)]
    assert not outbox.filled.is_set()
    assert outbox.take(NOTIFY_BYTES_MAX) == []


def test_what_does_not_fit_is_dropped() -> None:
    outbox = Outbox(ME)
    for number in range(limits.RELAY_HINTS_MAX + 10):
        outbox.put_ready(number, "q", 1)
        outbox.put(Listens(number))
    assert len(unpack(outbox.take(NOTIFY_BYTES_MAX))) == 2 * limits.RELAY_HINTS_MAX


def test_what_only_a_newer_version_knows_is_left_out() -> None:
    message = parse_message(f'["{ME}",[["x",1],["l",7],["l","seven"],["r",1],{{"t":1}},["l",8]]]')
    assert message is not None
    assert message.hints == [Listens(7), Listens(8)]


def test_what_is_no_message_of_ours_is_none() -> None:
    texts = ["", "{}", "[]", "hello", '["x",[]]', f'["{ME}"]', f'["{ME}",7]', "[" * 5_000]
    assert [parse_message(text) for text in texts] == [None] * len(texts)
