"""The table of settings as the documentation shows it."""

from msgspec import UNSET, Struct

from millstream.config.schema import LogFilter
from millstream.config.setting import Setting
from millstream.config.settings import SETTINGS, default_of


class SettingRow(Struct, frozen=True, kw_only=True):
    """One line of the documentation's table of settings."""

    path: str
    variable: str
    aliases: tuple[str, ...]
    default: str
    allowed: str
    help: str
    reserved: bool


def settings_table() -> tuple[SettingRow, ...]:
    """Return every setting as the documentation shows it, in the order of the table."""
    return tuple(
        SettingRow(
            path=setting.path,
            variable=setting.name,
            aliases=tuple(alias.name for alias in setting.aliases),
            default=_default_text(setting),
            allowed=setting.kind.range,
            help=setting.help,
            reserved=setting.reserved,
        )
        for setting in SETTINGS
    )


def settings_markdown() -> str:
    """Return the table of settings as a Markdown table."""
    lines = [
        "| Variable | Aliases | In the file | Default | Allowed | Meaning |",
        "|---|---|---|---|---|---|",
    ]
    for row in settings_table():
        aliases = ", ".join(f"`{alias}`" for alias in row.aliases) or "–"
        meaning = f"*Reserved.* {row.help}" if row.reserved else row.help
        lines.append(
            f"| `{row.variable}` | {aliases} | `{row.path}` | {row.default} | {row.allowed} | {meaning} |"
        )
    return "\n".join(lines) + "\n"


def _default_text(setting: Setting) -> str:
    text = _value_text(default_of(setting.path))
    if setting.strict_default is UNSET:
        return text
    return f"{text}; in staging and production {_value_text(setting.strict_default)}"


def _value_text(value: object) -> str:
    match value:
        case None | ():
            return "–"
        case bool():
            return str(value).lower()
        case LogFilter():
            return value.default.value
        case _:
            return str(value)
