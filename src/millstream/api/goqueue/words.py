"""Texts that many messages of an answer share, each written once."""

from datetime import datetime
from typing import Final

from millstream.api.http.timestamps import format_timestamp
from millstream.domain.topic import Priority

PRIORITY_WORDS: Final = {priority: priority.word for priority in Priority}


class StampWriter:
    """Writes timestamps; messages that were published together have one in common."""

    def __init__(self) -> None:
        self._texts: dict[datetime, str] = {}

    def text_of(self, moment: datetime) -> str:
        """Return `moment` as clients read it."""
        text = self._texts.get(moment)
        if text is None:
            text = self._texts[moment] = format_timestamp(moment)
        return text
