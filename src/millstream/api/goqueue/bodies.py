"""How request bodies are read in this dialect. Contract: goqueue-messaging 1.2."""

from typing import Final, TypeVar

import msgspec

from millstream.api.http.body import Body
from millstream.domain.errors import BadRequest

BodyT_co = TypeVar("BodyT_co", covariant=True)

_DEPTH_MESSAGE: Final = "invalid JSON: nested too deep"


class TopicBody(Body[BodyT_co]):
    """A JSON object of one type, whose unknown keys are ignored and whose strings may hold any character.

    An absent body reads as `{}` unless it is `required`.
    """

    def __init__(self, body_type: type[BodyT_co], *, required: bool = True) -> None:
        super().__init__(body_type, required=required)
        self._decode = msgspec.json.Decoder(body_type, strict=True).decode

    def read(self, data: bytes) -> BodyT_co:
        """Return `data` as the body's type. Raises BadRequest for what is not JSON or has a field of another type."""
        if not data:
            if self.required:
                raise BadRequest("invalid JSON: the body is empty")
            data = b"{}"
        try:
            return self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"invalid JSON: {described(error)}") from None
        except RecursionError:
            raise BadRequest(_DEPTH_MESSAGE) from None


def described(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """Return what a decoder says is wrong, as the rest of a sentence."""
    text = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).replace("`", "")
    return text[:1].lower() + text[1:]
