"""How request bodies are read in this dialect. Contract: goqueue-messaging 1.2."""

from typing import Final, TypeVar

import msgspec

from millstream.api.http.body import Body, check_json
from millstream.domain.errors import BadRequest

BodyT_co = TypeVar("BodyT_co", covariant=True)

_DEPTH_MESSAGE: Final = "invalid JSON: nested too deep"


class TopicBody(Body[BodyT_co]):
    """A JSON object of one type, whose unknown keys are ignored.

    An absent body reads as `{}` unless it is `required`. Texts may hold NUL characters only `with_nul`.
    """

    def __init__(self, body_type: type[BodyT_co], *, required: bool = True, with_nul: bool = False) -> None:
        super().__init__(body_type, required=required)
        self._with_nul = with_nul
        self._decode = msgspec.json.Decoder(body_type, strict=True).decode

    def read(self, data: bytes) -> BodyT_co:
        """Return `data` as the body's type. Raises BadRequest for what is not JSON or has a field of another type."""
        if not data:
            if self.required:
                raise BadRequest("invalid JSON: the body is empty")
            data = b"{}"
        try:
            body = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"invalid JSON: {described(error)}") from None
        except RecursionError:
            raise BadRequest(_DEPTH_MESSAGE) from None
        if not self._with_nul and b"\\u0000" in data and check_json(data):
            raise BadRequest("invalid JSON: a text holds a NUL character")
        return body


def described(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """Return what a decoder says is wrong, as the rest of a sentence."""
    text = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).replace("`", "")
    # Of names such as JSON the first letter stays what it is.
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
