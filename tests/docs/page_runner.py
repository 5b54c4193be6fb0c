"""Runs a page: every example in it, in order, in a directory where `./data` is a live server's."""

import json
import os
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from millstream.config.load import ConfigError, load
from millstream.embedded import find_binaries
from tests.docs.console import Shell, WrongExample, read_commands
from tests.docs.markdown import Block, Page
from tests.docs.python_session import PythonSession

# A block of this kind is not run: it shows output, or starts and stops what a test must not.
TEXT = "text"

_KEPT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "MILLSTREAM_POSTGRES_BIN_DIR", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Surroundings:
    """The directory of the examples, their variables, and the addresses that stand for those on the page."""

    place: Path
    environment: Mapping[str, str]
    addresses: Mapping[str, str]

    def localized(self, text: str) -> str:
        """Put the real addresses in the place of those that pages use."""
        for written, real in self.addresses.items():
            text = text.replace(written, real)
        return text


def surroundings_of(place: Path, *, url: str, metrics_url: str, data_dir: Path) -> Surroundings:
    """Make `place` look like the directory in which a reader of the guide works."""
    (place / "data").symlink_to(data_dir)
    (place / ".venv").symlink_to(sys.prefix)
    configured = os.environ.get("MILLSTREAM_POSTGRES_BIN_DIR")
    programs = find_binaries(Path(configured) if configured else None).directory
    path = [str(Path(sys.prefix) / "bin"), str(programs), os.environ.get("PATH", os.defpath)]
    environment = {
        **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        "PATH": os.pathsep.join(path),
        "HOME": str(place),
        # The ports of the live server: the usual ones may be in use on the machine of the test.
        "MILLSTREAM_PORT": str(urlsplit(url).port),
        "MILLSTREAM_METRICS_PORT": str(urlsplit(metrics_url).port),
        "MILLSTREAM_GRPC_PORT": str(_free_port()),
    }
    addresses = {
        f"http://{host}:{port}": real
        for host in ("localhost", "127.0.0.1")
        for port, real in ((8080, url), (9090, metrics_url))
    }
    return Surroundings(place, environment, addresses)


def run_page(page: Page, surroundings: Surroundings) -> int:
    """Run every block; returns how many of them were examples. Raises WrongExample, with the place in a note."""
    state = surroundings.place / ".shell-variables"
    shell = Shell(surroundings.place, surroundings.environment, state=state)
    run = 0
    with PythonSession(surroundings.place, surroundings.environment) as session:
        for block in page.blocks():
            with _located(page, block):
                run += _run_block(page, _localized(block, surroundings), surroundings, shell, session)
    return run


def _run_block(
    page: Page, block: Block, surroundings: Surroundings, shell: Shell, session: PythonSession
) -> int:
    match block.kind:
        case "python":
            session.run(page.path.name, block)
        case "console":
            for command in read_commands(block.text):
                shell.run(command)
        case "json":
            _check_json(block.text)
        case "toml":
            _check_settings(block.text, surroundings.place)
        case _ if block.kind == TEXT:
            return 0
        case _:
            raise WrongExample(f"nobody knows how to run a block of kind {block.kind!r}")
    return 1


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise WrongExample(f"this is no JSON: {error}") from error


def _check_settings(text: str, place: Path) -> None:
    file = place / "settings-of-the-page.toml"
    file.write_text(text)
    try:
        load({}, environ={}, file=file, directory=place)
    except ConfigError as error:
        raise WrongExample(str(error)) from error


@contextmanager
def _located(page: Page, block: Block) -> Generator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"in {page.path.name}, line {block.line}")
        raise


def _localized(block: Block, surroundings: Surroundings) -> Block:
    return Block(block.kind, surroundings.localized(block.text), block.line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
