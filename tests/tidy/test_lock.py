"""The requirements files hold every dependency that pyproject.toml asks for, at a version that it allows."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<marker> ; [^\\]+)? \\$")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def asked_for(group: str) -> list[str]:
    """The requirements of a dependency group, its included groups among them."""
    requirements: list[str] = []
    for entry in PROJECT["dependency-groups"][group]:
        requirements += [entry] if isinstance(entry, str) else asked_for(entry["include-group"])
    return requirements


def pins(file: str) -> dict[str, str]:
    """The version that a requirements file holds of each distribution."""
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    found = (PIN.match(line) for line in lines)
    return {canonicalize_name(pin["name"]): pin["version"] for pin in found if pin}


def stale(requirements: list[str], locked: dict[str, str]) -> list[str]:
    """The requirements that the lock does not meet."""
    return [
        text
        for text in requirements
        for requirement in [Requirement(text)]
        if not requirement.specifier.contains(
            locked.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
    ]


SDK: list[str] = PROJECT["project"]["dependencies"]
SERVER: list[str] = SDK + PROJECT["project"]["optional-dependencies"]["server"]


@pytest.mark.parametrize(
    ("file", "requirements"),
    [("dev.txt", SERVER + asked_for("dev")), ("server.txt", SERVER), ("uv.txt", ["uv"])],
)
def test_the_lock_meets_what_the_project_asks_for(file: str, requirements: list[str]) -> None:
    assert stale(requirements, pins(file)) == [], "run `make lock`"


def test_a_requirement_that_the_lock_does_not_meet_is_found() -> None:
    assert stale(["rich>=15.0", "rich>=99", "absent>=1"], {"rich": "15.0.0"}) == ["rich>=99", "absent>=1"]


@pytest.mark.parametrize("file", ["server.txt", "uv.txt"])
def test_what_is_deployed_is_what_is_tested(file: str) -> None:
    tested = pins("dev.txt")
    assert {name: tested.get(name) for name in pins(file)} == pins(file)


@pytest.mark.parametrize("file", ["dev.txt", "server.txt", "uv.txt"])
def test_every_line_is_a_pin_or_one_of_its_hashes(file: str) -> None:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    assert [line for line in lines if not PIN.match(line) and not line.startswith("    --hash=sha256:")] == []
