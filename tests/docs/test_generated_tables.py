import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.generate_docs import generate

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# Numbers\n\n<!-- generated: numbers -->\nold\n<!-- end -->\n\nThe end.\n"


def _run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


def test_the_tables_of_the_guide_are_what_the_code_says() -> None:
    checked = _run(ROOT / "scripts" / "generate_docs.py", "--check")

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The generator beside a copy of the guide."""
    (tmp_path / "scripts").mkdir()
    shutil.copytree(ROOT / "docs" / "guide", tmp_path / "docs" / "guide")
    return Path(shutil.copy(ROOT / "scripts" / "generate_docs.py", tmp_path / "scripts"))


def test_a_stale_table_is_found_and_written_anew(script: Path) -> None:
    page = script.parents[1] / "docs" / "guide" / "settings.md"
    fresh = page.read_text()
    page.write_text(fresh.replace("`MILLSTREAM_PORT`", "`MILLSTREAM_DOOR`"))

    checked = _run(script, "--check")
    assert (checked.returncode, checked.stdout) == (1, "differs: docs/guide/settings.md\n")
    assert "MILLSTREAM_DOOR" in page.read_text()

    assert _run(script).returncode == 0
    assert page.read_text() == fresh


def test_a_table_without_a_place_is_found(script: Path) -> None:
    (script.parents[1] / "docs" / "guide" / "settings.md").unlink()

    checked = _run(script, "--check")

    assert (checked.returncode, checked.stdout) == (1, "no page has a place for the table of settings\n")


def test_only_what_is_between_the_marks_changes() -> None:
    assert generate(PAGE, {"numbers": lambda: "one\n"}) == PAGE.replace("old", "\none\n")


def test_generating_twice_changes_nothing() -> None:
    once = generate(PAGE, {"numbers": lambda: "one\n"})
    assert generate(once, {"numbers": lambda: "one\n"}) == once


def test_a_table_that_nobody_makes_is_refused() -> None:
    with pytest.raises(KeyError):
        generate(PAGE, {})
