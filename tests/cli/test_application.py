"""The command line itself: what it understands, and how it refuses."""

import json
import subprocess
import sys

import pytest

from millstream.cli.main import main
from tests.cli.server_process import run_command

COMMANDS = ["serve", "demo", "job", "queue", "worker", "db", "bench", "doctor"]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f" {name} " not in shown] == []


def test_help_loads_no_server_code() -> None:
    script = (
        "import sys; from millstream.cli.main import main; main(['--help']);"
        "print([name for name in ('asyncpg', 'uvicorn', 'starlette', 'prometheus_client', 'httpx2')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_explains_itself_and_takes_json(capsys: pytest.CaptureFixture[str]) -> None:
    leaves = [
        *(["serve"], ["demo"], ["doctor"], ["db", "url"], ["db", "shell"], ["db", "migrate"]),
        *(["job", verb] for verb in ("list", "get", "enqueue", "retry", "cancel", "stats", "history")),
        *(["queue", verb] for verb in ("list", "get", "configure", "pause", "resume", "stats", "delete")),
        *(["worker", verb] for verb in ("list", "get")),
    ]
    for leaf in leaves:
        assert main([*leaf, "--help"]) == 0
        assert "--json" in capsys.readouterr().out, leaf


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["job", "list", "--status", "bogus"],
        ["job", "get"],
        ["job", "list", "--limit", "x"],
    ],
)
def test_what_is_not_understood_exits_with_2_and_one_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")


def test_an_unreachable_server_is_one_error_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "stats", "--url", "http://127.0.0.1:1", "--api-key", "sk_live_x"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: the server at http://127.0.0.1:1 does not answer")
    assert "millstream serve" in shown.err


def test_errors_are_json_too_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "stats", "--url", "http://127.0.0.1:1", "--api-key", "sk_live_x", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"error", "remedy"}


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    # As if the base package alone were installed.
    script = (
        "import sys; sys.modules['cyclopts'] = None;"
        "from millstream.cli.main import main; sys.exit(main(['job', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'cyclopts', which is not installed" in done.stderr
    assert "pip install 'millstream[server]'" in done.stderr


def test_the_module_is_the_command() -> None:
    done = run_command("--help")
    assert done.returncode == 0
    assert "Usage: millstream COMMAND" in done.stdout
