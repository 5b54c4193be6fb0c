"""What a consumer group is owed of one partition, told as simply as the contract tells it (goqueue-messaging 14.1, 14.5)."""

from datetime import datetime, timedelta
from enum import Enum

from msgspec import Struct

VISIBILITY = timedelta(seconds=30)
RETENTION = timedelta(hours=168)
DELIVERIES_MAX = 3


class State(Enum):
    """Where a message is."""

    READY = 1
    LEASED = 2
    WAITING = 3
    SETTLED = 4


class ReferenceMessage(Struct):
    """One message. `visible_at` is when it is due, or its lease ends, or its wait."""

    offset: int
    state: State
    visible_at: datetime
    delayed: bool
    published_at: datetime
    deliver_at: datetime
    count: int = 0
    receipt: str | None = None
    # Given back after its lease, so that its receipt is good still.
    late: bool = False
    cancelled: bool = False
    # Retention took it: a lease goes on to its end, nothing else of it does.
    removed: bool = False
    member: str = ""
    # Deliveries that were nacked or ran out.
    failures: int = 0

    @property
    def expires_at(self) -> datetime:
        return max(self.published_at, self.deliver_at) + RETENTION


class Answer(Enum):
    """What a call is answered with."""

    DONE = 1
    NOT_FOUND = 2
    GONE = 3


class Reference:
    """One partition and one group."""

    def __init__(self) -> None:
        self.messages: list[ReferenceMessage] = []
        self.buried = 0
        # Of every receipt that was handed out: its message, and what it was used for.
        self.receipts: dict[str, tuple[int, str | None]] = {}
        # Receipts of nacked messages that wait no more: they were delivered again, or nobody is owed them.
        self.outlived: set[str] = set()
        self.log_start = 0

    def publish(self, now: datetime, delay: int) -> None:
        due = now + timedelta(seconds=delay)
        self.messages.append(ReferenceMessage(len(self.messages), State.WAITING, due, delay > 0, now, due))

    def tick(self, now: datetime) -> None:
        """Let time do what it does; a lease's last end is done by `bury`."""
        for one in self.messages:
            if one.state is State.WAITING and one.visible_at <= now:
                one.state = State.READY
            if one.state is State.LEASED and one.visible_at <= now and one.count < DELIVERIES_MAX:
                one.failures += 1
                self._give_back(one)

    def bury(self, now: datetime) -> None:
        for one in self.messages:
            if one.state is State.LEASED and one.visible_at <= now and one.count >= DELIVERIES_MAX:
                one.failures += 1
                self._settle(one)
                self.buried += 1
                if one.receipt is not None:
                    self.receipts[one.receipt] = (one.offset, "buried")

    def ready(self) -> list[ReferenceMessage]:
        return [one for one in self.messages if one.state is State.READY]

    def lease(self, offset: int, receipt: str, now: datetime, member: str) -> int:
        one = self.messages[offset]
        assert one.state is State.READY, one
        self._outlive_nack(one)
        one.state, one.receipt, one.late, one.member = State.LEASED, receipt, False, member
        one.visible_at = now + VISIBILITY
        one.count += 1
        assert receipt not in self.receipts
        self.receipts[receipt] = (offset, None)
        return one.count

    def use(self, receipt: str, act: str, seconds: int, now: datetime) -> Answer:
        offset, used_for = self.receipts[receipt]
        one = self.messages[offset]
        if used_for == act and act != "extend":
            return Answer.DONE
        if used_for == "superseded" or receipt in self.outlived:
            return Answer.GONE
        if used_for is not None:
            return Answer.NOT_FOUND
        if one.receipt != receipt:
            return Answer.GONE
        if not (one.state is State.LEASED or one.late):
            return Answer.NOT_FOUND
        if act == "extend":
            if one.state is not State.LEASED or one.visible_at <= now:
                return Answer.NOT_FOUND
            one.visible_at = now + timedelta(seconds=seconds)
            return Answer.DONE
        self.receipts[receipt] = (offset, act)
        one.failures += act == "nack" and not one.late
        if act == "nack" and one.count < DELIVERIES_MAX:
            one.state, one.late = State.WAITING, False
            one.visible_at = now + timedelta(seconds=seconds)
            if one.removed:
                self._settle(one)
            return Answer.DONE
        self.buried += act != "ack"
        self._settle(one)
        return Answer.DONE

    def is_fading(self, receipt: str) -> bool:
        """Tell whether a receipt is good only until somebody notices that its message was removed."""
        offset, used_for = self.receipts[receipt]
        one = self.messages[offset]
        if used_for == "nack":
            return one.removed
        return used_for is None and one.receipt == receipt and one.removed and one.late

    def fade(self, receipt: str) -> None:
        """Note that a fading receipt has turned out to be good no more."""
        offset, used_for = self.receipts[receipt]
        if used_for == "nack":
            self.outlived.add(receipt)
        self._supersede_late(self.messages[offset])

    def leave(self, member: str) -> None:
        for one in self.messages:
            if one.state is State.LEASED and one.member == member:
                self._give_back(one)

    def retain(self, now: datetime) -> None:
        """Remove what has expired, up to the first that has not; those published together go together."""
        kept = [one.offset for one in self.messages if one.expires_at >= now]
        self.log_start = max(self.log_start, min(kept, default=len(self.messages)))
        for one in self.messages[: self.log_start]:
            one.removed = True
            if one.state is not State.LEASED:
                self._supersede_late(one)
                self._settle(one)

    def cancel(self, offset: int, now: datetime) -> bool:
        one = self.messages[offset]
        if not one.delayed or one.cancelled or one.deliver_at <= now:
            return False
        one.cancelled = True
        self._settle(one)
        return True

    def commit(self, position: int, now: datetime) -> None:
        for one in self.messages:
            if one.cancelled:
                continue
            if one.offset < position:
                if not (one.count == 0 and one.state is State.WAITING and one.visible_at > now):
                    if one.state is State.LEASED and one.receipt is not None:
                        self.receipts[one.receipt] = (one.offset, "committed")
                    self._supersede_late(one)
                    self._outlive_nack(one)
                    self._settle(one)
            elif one.state is State.SETTLED and not one.removed:
                self._renew(one)

    def reset(self, position: int) -> None:
        for one in self.messages:
            if one.cancelled:
                continue
            if one.state is State.LEASED and one.receipt is not None:
                self.receipts[one.receipt] = (one.offset, "superseded")
            self._supersede_late(one)
            self._outlive_nack(one)
            if one.offset < position or one.removed:
                self._settle(one)
            else:
                self._renew(one)

    def _give_back(self, one: ReferenceMessage) -> None:
        one.state = State.SETTLED if one.removed else State.READY
        one.late = True

    def _supersede_late(self, one: ReferenceMessage) -> None:
        # Who was late cannot be told whether it was delivered again or settled otherwise.
        if one.late and one.receipt is not None:
            self.receipts[one.receipt] = (one.offset, "superseded")

    def _outlive_nack(self, one: ReferenceMessage) -> None:
        waits = one.state is State.WAITING or one.state is State.READY
        if waits and one.receipt is not None and self.receipts[one.receipt][1] == "nack":
            self.outlived.add(one.receipt)

    def _renew(self, one: ReferenceMessage) -> None:
        one.state, one.visible_at, one.late, one.receipt = State.WAITING, one.deliver_at, False, None
        one.count = one.failures = 0

    def _settle(self, one: ReferenceMessage) -> None:
        one.state, one.late = State.SETTLED, False
