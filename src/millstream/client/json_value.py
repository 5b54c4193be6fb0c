"""The type of user data: anything JSON can say."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    JsonValue: TypeAlias = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
else:
    # msgspec cannot resolve an alias that names itself; `object` decodes to the same values.
    JsonValue: TypeAlias = object
