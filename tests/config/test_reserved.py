"""What the table of settings says about settings without effect."""

import re
from pathlib import Path

import millstream
from millstream.config import settings_markdown
from millstream.config.setting import Setting
from millstream.config.settings import SETTINGS

PACKAGE = Path(millstream.__file__).parent
# They check every setting, with and without effect.
CHECKERS = (PACKAGE / "config", PACKAGE / "cli" / "machine_checkup.py")
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py")
    if not any(path.is_relative_to(checker) for checker in CHECKERS)
)


# Whose field is read, and which. In quotes it is the name of a setting, not its value.
READ = {(owner, field) for owner, field in re.findall(r'(?<!["\w])(?:\w+\.)*(\w+)\.(\w+)\b', CODE)}


def _is_read(setting: Setting) -> bool:
    group, field = setting.path.split(".")
    owners = ("config", "settings", group)
    return any(
        read == field and (owner in owners or owner.endswith(tuple(f"_{name}" for name in owners)))
        for owner, read in READ
    )


def test_the_reserved_settings_are_those_that_nothing_reads() -> None:
    assert [setting.path for setting in SETTINGS if setting.reserved] == [
        setting.path for setting in SETTINGS if not _is_read(setting)
    ]


def test_the_documented_table_marks_them() -> None:
    marked = [line for line in settings_markdown().splitlines() if "| *Reserved.* " in line]

    assert [line.split("`")[1] for line in marked] == [
        setting.name for setting in SETTINGS if setting.reserved
    ]
    assert any("`GRPC_PORT`" in line for line in marked)
