"""A text that must never reach a log, a traceback or a terminal by accident."""

import hashlib
import hmac


class Secret:
    """A secret setting. Only `reveal` gives it away; `repr`, `str` and formatting do not.

    An empty one is false: it was set, and set to nothing.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def matches(self, given: str) -> bool:
        """Tell whether `given` is this secret, in a time that depends on neither.

        An empty secret matches nothing: it stands for "not configured". Contract: spooled-tenancy 19.9 I4.
        """
        # Digests have one length, so that the comparison does not tell the secret's.
        equal = hmac.compare_digest(_digest(self._value), _digest(given))
        return equal and bool(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_digest(self._value), _digest(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret(empty)"

    def __str__(self) -> str:
        return repr(self)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
