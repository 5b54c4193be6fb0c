"""Request bodies: JSON checked once and cheaply, then read into a type.

The cheap checks are sound, not exact: they may suspect an innocent body, which is then looked at token by
token, but nothing that must be refused passes them.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Raw, Struct

from millstream.domain import limits
from millstream.domain.errors import FieldProblem, InvalidField, InvalidJson, InvalidShape

BodyT_co = TypeVar("BodyT_co", covariant=True)

# Digits become 0 and E becomes e, signs go: a number whose exponent has three digits then contains 0e000
# (or .e000, which no valid number does), one that is long contains a long run of zeros.
_NUMBERS_LEVELLED = bytes(
    ord("0") if 48 <= byte <= 57 else ord("e") if byte == ord("E") else byte for byte in range(256)
)
# 190 digits on each side of the point and a two-digit exponent are still within a double and the length limit.
_LONG_RUN = b"0" * 190
# Longer ones could be stored, but a client in Python would refuse to read them.
_INTEGER_CHARS_MAX = 4300
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"\\'))
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|(-?[0-9][0-9.eE+\-]*+)|([\[{])|([\]}])', re.DOTALL)
_STRING, _NUMBER, _OPEN, _CLOSE = 1, 2, 3, 4


class Body(Generic[BodyT_co]):
    """How the body of an endpoint is read: JSON of one type.

    An absent body reads as `{}` unless it is `required`.
    """

    def __init__(self, body_type: type[BodyT_co], *, required: bool = True) -> None:
        self.type = body_type
        self.required = required
        self._decoder = msgspec.json.Decoder(body_type, strict=True)

    def read(self, data: bytes) -> BodyT_co:
        """Return `data` as the body's type.

        Raises InvalidJson for what is not JSON of bounded depth and numbers, InvalidShape with every field
        that is missing or mistyped, InvalidField for a NUL character. Contract: spooled-jobs 1.3,
        spooled-tenancy 12.2.
        """
        if not data and not self.required:
            data = b"{}"
        has_nul = check_json(data)
        try:
            value = self._decoder.decode(data)
        except msgspec.ValidationError:
            raise self._shape_error(data) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidJson from None
        if has_nul:
            raise InvalidField([FieldProblem("body", "must not contain NUL characters", "NUL_CHARACTER")])
        return value

    def _shape_error(self, data: bytes) -> InvalidShape | InvalidJson:
        # The typed decoder stops at the first mismatch, before it has seen whether the rest is JSON at all.
        try:
            value: object = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return InvalidJson()
        problems = list(islice(_shape_problems(value, self.type, ""), limits.PROBLEMS_MAX))
        return InvalidShape(problems or [FieldProblem("body", "has a wrong type", "INVALID_TYPE")])


def check_json(data: bytes) -> bool:
    """Refuse what a JSON decoder would let pass; tell whether a string holds an escaped NUL.

    Raises InvalidJson for bytes that are not UTF-8, lone surrogates, nesting deeper than 128 levels,
    integers of more than 4300 characters, other numbers of more than 400 or beyond a double.
    """
    if not data:
        raise InvalidJson("The body is empty")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise InvalidJson("The body is not valid UTF-8") from None
    if b"\\u" in data or _numbers_are_suspect(data) or _depth_is_suspect(data):
        return _check_tokens(data)
    return False


def _shape_problems(value: object, expected: object, path: str) -> Iterator[FieldProblem]:
    """Tell what in `value` (decoded JSON) is missing or has another type than `expected`."""
    if isinstance(expected, type) and issubclass(expected, Struct):
        if not isinstance(value, dict):
            yield FieldProblem(path or "body", "must be an object", "INVALID_TYPE")
            return
        members = cast("dict[str, object]", value)
        for field in msgspec.structs.fields(expected):
            name = f"{path}.{field.encode_name}" if path else field.encode_name
            if field.encode_name in members:
                yield from _shape_problems(members[field.encode_name], field.type, name)
            elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
                yield FieldProblem(name, "is required", "REQUIRED")
        return
    if get_origin(expected) is list and isinstance(value, list):
        (item_type,) = get_args(expected)
        for index, item in enumerate(cast("list[object]", value)):
            yield from _shape_problems(item, item_type, f"{path}[{index}]")
        return
    if expected is Raw or Raw in get_args(expected):
        return
    try:
        msgspec.convert(value, expected, strict=True)
    except msgspec.ValidationError as error:
        message = str(error)[: limits.PROBLEM_CHARS_MAX].split(" - at ")[0].replace("`", "")
        yield FieldProblem(path, message[:1].lower() + message[1:], "INVALID_TYPE")


def _numbers_are_suspect(data: bytes) -> bool:
    levelled = data.translate(_NUMBERS_LEVELLED, b"+-")
    return b"0e000" in levelled or _LONG_RUN in levelled


def _depth_is_suspect(data: bytes) -> bool:
    if data.count(b"[") + data.count(b"{") <= limits.JSON_DEPTH_MAX:
        return False
    structure = data.translate(None, _ALL_BUT_STRUCTURE)
    if b"\\" in structure:
        structure = structure.replace(b"\\\\", b"").replace(b'\\"', b"").replace(b"\\", b"")
    structure = structure.replace(b'""', b"")
    if b'"' in structure:
        # A string holds brackets of its own.
        return True
    # Each round takes away at least the innermost level.
    for _ in range(limits.JSON_DEPTH_MAX):
        structure = structure.replace(b"{}", b"").replace(b"[]", b"")
        if not structure:
            return False
    return True


def _check_tokens(data: bytes) -> bool:
    depth = 0
    has_nul = False
    for match in _TOKEN.finditer(data):
        kind = match.lastindex
        if kind == _STRING:
            if b"\\u" in match[_STRING]:
                has_nul |= _check_string(match[0])
        elif kind == _NUMBER:
            _check_number(match[0])
        elif kind == _OPEN:
            depth += 1
            if depth > limits.JSON_DEPTH_MAX:
                raise InvalidJson("The body nests too deep")
        elif kind == _CLOSE:
            depth -= 1
    return has_nul


def _check_string(literal: bytes) -> bool:
    try:
        text: str = json.loads(literal)
        text.encode()
    except (json.JSONDecodeError, UnicodeEncodeError):
        raise InvalidJson from None
    return "\0" in text


def _check_number(literal: bytes) -> None:
    is_integer = literal.strip(b"-").isdigit()
    if len(literal) > (_INTEGER_CHARS_MAX if is_integer else limits.JSON_NUMBER_CHARS_MAX):
        raise InvalidJson("The body holds a number that is too long")
    if not is_integer:
        try:
            is_finite = abs(float(literal)) != float("inf")
        except ValueError:
            raise InvalidJson from None
        if not is_finite:
            raise InvalidJson("The body holds a number that is too large")
