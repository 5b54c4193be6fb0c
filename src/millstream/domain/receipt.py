"""Receipts: what a member shows to settle one message of one delivery. Contract: goqueue-messaging 9.6."""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import BadRequest

_VERSION: Final = 1
# 27 bytes are 36 characters, the 3 of the place are 4 more: all receipts of a delivery begin alike.
_HEAD: Final = struct.Struct(">BIIHqq")
_HEAD_CHARS: Final = 36
_RECEIPT: Final = re.compile(r"[A-Za-z0-9_-]{40}")
_PLACE_TEXTS: Final = [
    urlsafe_b64encode(place.to_bytes(3)).decode() for place in range(limits.READ_MESSAGES_MAX)
]
_PLACES: Final = {text: place for place, text in enumerate(_PLACE_TEXTS)}


class DeliveryKey(Struct, frozen=True, gc=False, order=True):
    """Names a delivery within its tenant."""

    group_id: int
    topic_id: int
    partition: int
    id: int


class Receipts(Struct, frozen=True, gc=False):
    """Receipts of one delivery: whose they are, and for its messages at which places (from 0)."""

    key: DeliveryKey
    secret: int
    places: Sequence[int]


def write_receipts(key: DeliveryKey, secret: int, count: int) -> list[str]:
    """Return the receipts of a delivery of `count` messages, in their order."""
    packed = _HEAD.pack(_VERSION, key.group_id, key.topic_id, key.partition, key.id, secret)
    head = urlsafe_b64encode(packed).decode()
    return [head + place for place in _PLACE_TEXTS[:count]]


def read_receipts(texts: Sequence[str]) -> list[tuple[Receipts, list[int]]]:
    """Return what `texts` name, gathered by delivery, each with the numbers of its texts.

    Texts that have not the form of a receipt are left out.
    """
    gathered: dict[str, tuple[list[int], list[int]]] = {}
    last_head = ""
    places: list[int] = []
    numbers: list[int] = []
    for number, text in enumerate(texts):
        place = _PLACES.get(text[_HEAD_CHARS:])
        if place is None:
            continue
        head = text[:_HEAD_CHARS]
        # Receipts come in the order in which they were handed out.
        if head != last_head:
            last_head = head
            places, numbers = gathered.setdefault(head, ([], []))
        places.append(place)
        numbers.append(number)
    read: list[tuple[Receipts, list[int]]] = []
    for head, (places, numbers) in gathered.items():
        named = _read_head(head)
        if named is not None:
            read.append((Receipts(*named, places), numbers))
    return read


def read_receipt(text: str) -> Receipts:
    """Return what one receipt names. Raises BadRequest with the contract's texts."""
    if not text:
        raise BadRequest("receipt_handle is required")
    read = read_receipts((text,))
    if not read:
        raise malformed()
    return read[0][0]


def malformed() -> BadRequest:
    """Return the refusal of a text that has not the form of a receipt."""
    return BadRequest("invalid receipt handle format")


def _read_head(head: str) -> tuple[DeliveryKey, int] | None:
    if _RECEIPT.fullmatch(head + _PLACE_TEXTS[0]) is None:
        return None
    version, group_id, topic_id, partition, delivery_id, secret = _HEAD.unpack(urlsafe_b64decode(head))
    if version != _VERSION or group_id > 2**31 - 1 or topic_id > 2**31 - 1:
        return None
    return DeliveryKey(group_id, topic_id, partition, delivery_id), secret
