import pytest

from millstream.cli.application import run
from millstream.cli.bench import bench_app
from millstream.cli.bench.scenarios import SCENARIOS, find_scenario


def test_every_scenario_has_a_name_of_its_own_and_a_target():
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert all(find_scenario(scenario.name) is scenario for scenario in SCENARIOS)
    assert all(scenario.target.describe() for scenario in SCENARIOS)


def test_the_list_names_every_scenario(capsys: pytest.CaptureFixture[str]):
    assert run(["bench", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(scenario.name in printed for scenario in SCENARIOS)


def test_the_command_can_be_mounted_as_an_application(capsys: pytest.CaptureFixture[str]):
    assert bench_app(["--list"], result_action="return_value") == 0
    assert "jobs-create" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["jobs-nothing"], "there is no scenario 'jobs-nothing'"),
        ([], "which scenario?"),
        (["jobs-create", "--url", "http://127.0.0.1:9"], "--url and --api-key belong together"),
        (
            ["jobs-create", "--url", "https://127.0.0.1:9", "--api-key", "key"],
            "must look like http://host:port",
        ),
        (["jobs-create", "--seconds", "0"], "Must be > 0"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert run(["bench", *arguments]) != 0
    assert complaint in " ".join(capsys.readouterr().err.split())
