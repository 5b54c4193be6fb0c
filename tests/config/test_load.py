"""Where settings come from, which source wins, and what is refused."""

import pickle
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from millstream.config import Config, ConfigError, Secret, load, settings_markdown, settings_table
from millstream.config.load import share_metrics, shared_metrics_directory
from millstream.config.schema import Environment
from millstream.config.settings import DEFAULTS, SETTINGS, default_of


def problems_of(
    directory: Path, *, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(flags or {}, environ=environ or {}, directory=directory)
    return refused.value.problems


def test_a_flag_beats_the_environment_beats_dotenv_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text(
        "[server]\nport = 1\ngrpc_port = 1\nmetrics_port = 1\nprocesses = 7\n"
    )
    (tmp_path / ".env").write_text("PORT=2\nGRPC_PORT=2\nMETRICS_PORT=2\n")
    environ = {"MILLSTREAM_PORT": "3", "MILLSTREAM_GRPC_PORT": "3"}

    server = load({"server.port": 4}, environ=environ, directory=tmp_path).server

    assert (server.port, server.grpc_port, server.metrics_port, server.processes) == (4, 3, 2, 7)


def test_without_an_argument_the_process_environment_and_the_working_directory_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MILLSTREAM_PROCESSES=3\nMILLSTREAM_SHUTDOWN_SECONDS=5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLSTREAM_PROCESSES", "2")

    server = load({}).server

    assert (server.processes, server.shutdown_seconds) == (2, 5.0)


def test_flags_that_were_not_given_are_none(tmp_path: Path) -> None:
    assert load({"server.port": None}, environ={"PORT": "81"}, directory=tmp_path).server.port == 81


def test_flags_may_be_values_of_python(tmp_path: Path) -> None:
    flags: dict[str, object] = {
        "server.environment": Environment.DEVELOPMENT,
        "server.shutdown_seconds": 0.5,
        "server.enable_hsts": True,
        "server.cors_allowed_origins": ["https://a.example", "https://b.example"],
        "database.data_dir": Path("/srv/data"),
    }

    config = load(flags, environ={}, directory=tmp_path)

    assert config.server.shutdown_seconds == 0.5
    assert config.server.enable_hsts is True
    assert config.server.cors_allowed_origins == ("https://a.example", "https://b.example")
    assert config.database.data_dir == Path("/srv/data")


def test_a_flag_for_no_setting_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        load({"server.prot": 1}, environ={}, directory=tmp_path)


@pytest.mark.parametrize("name", ["port", "grpc_port", "metrics_port"])
def test_port_zero_is_for_flags_only(tmp_path: Path, name: str) -> None:
    config = load({f"server.{name}": 0}, environ={}, directory=tmp_path)
    assert getattr(config.server, name) == 0

    (problem,) = problems_of(tmp_path, environ={f"MILLSTREAM_{name.upper()}": "0"})
    assert problem == f"MILLSTREAM_{name.upper()} must be a whole number from 1 to 65535"


def test_all_ports_may_be_free_ones_at_once(tmp_path: Path) -> None:
    load({"server.port": 0, "server.grpc_port": 0, "server.metrics_port": 0}, environ={}, directory=tmp_path)


def test_a_bad_flag_is_named_as_it_was_typed(tmp_path: Path) -> None:
    assert problems_of(tmp_path, flags={"server.grpc_port": 70_000}) == [
        "--grpc-port must be a whole number from 0 to 65535"
    ]
    assert problems_of(tmp_path, flags={"server.port": object()}) == [
        "--port must be a whole number from 1 to 65535"
    ]


def test_two_spellings_that_agree_are_fine(tmp_path: Path) -> None:
    environ = {
        "MILLSTREAM_PORT": "3000",
        "PORT": "03000",
        "RUST_ENV": "local",
        "MILLSTREAM_ENV": "development",
    }

    assert load({}, environ=environ, directory=tmp_path).server.port == 3000


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        ("MILLSTREAM_PORT", "PORT", ("81", "82")),
        ("MILLSTREAM_ENV", "RUST_ENV", ("staging", "local")),
        ("RATE_LIMIT_BURST_SIZE", "RATE_LIMIT_BURST", ("81", "82")),
        ("QUEUE_DEFAULT_TIMEOUT_SECS", "QUEUE_DEFAULT_TIMEOUT", ("81", "82")),
        ("LOG_LEVEL", "RUST_LOG", ("info", "debug")),
        ("MILLSTREAM_DATABASE_URL", "DATABASE_URL", ("postgres://hunter2@a/d", "postgres://hunter2@b/d")),
        ("MILLSTREAM_ADMIN_API_KEY", "ADMIN_API_KEY", ("hunter2", "")),
    ],
)
def test_two_spellings_that_disagree_are_both_named_and_neither_value(
    tmp_path: Path, one: str, other: str, texts: tuple[str, str]
) -> None:
    problems = problems_of(tmp_path, environ={one: texts[0], other: texts[1]})

    assert f"{one} and {other} disagree; keep one of them" in problems
    assert "hunter2" not in "".join(problems)


def test_the_environment_overrides_another_spelling_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=2\n")

    assert load({}, environ={"MILLSTREAM_PORT": "3"}, directory=tmp_path).server.port == 3


def test_a_fallback_name_yields_and_does_not_disagree(tmp_path: Path) -> None:
    environ = {"OTEL_SERVICE_NAME": "traces", "SERVICE_NAME": "anything"}

    assert load({}, environ=environ, directory=tmp_path).otel.service_name == "traces"


def test_a_value_that_is_overridden_must_be_right_all_the_same(tmp_path: Path) -> None:
    assert problems_of(tmp_path, flags={"server.port": 81}, environ={"PORT": "x"}) == [
        "PORT must be a whole number from 1 to 65535"
    ]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text("[server]\nprocesses = 0\n")
    (tmp_path / ".env").write_text("REDIS_POOL_SIZE=none\n")
    environ = {
        "RUST_ENV": "production",
        "PORT": "x",
        "MILLSTREAM_PROT": "1",
        "DATABASE_MIN_CONNECTIONS": "30",
        "JWT_SECRET": "hunter2",
    }

    problems = problems_of(tmp_path, environ=environ)

    assert [problem.split(" must ")[0] for problem in problems] == [
        "MILLSTREAM_PROT is no setting; did you mean MILLSTREAM_PORT?",
        "PORT",
        "server.processes in millstream.toml",
        "REDIS_POOL_SIZE in .env",
        "DATABASE_MIN_CONNECTIONS",
        "JWT_SECRET",
        "JWT_SECRET",
    ]
    assert "hunter2" not in "".join(problems)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("MILLSTREAM_DATA_DRI", "MILLSTREAM_DATA_DRI is no setting; did you mean MILLSTREAM_DATA_DIR?"),
        ("MILLSTREAM_ZZZ", "MILLSTREAM_ZZZ is no setting"),
        ("MILLSTREAM_port", "MILLSTREAM_port is no setting"),
    ],
)
def test_an_unknown_variable_with_our_prefix_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    (found,) = problems_of(tmp_path, environ={name: "x"})
    assert found.startswith(problem)


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    environ = {"PATH": "/bin", "GOQUEUE_SERVER": "x", "MILLSTREAM_URL": "http://h", "MILLSTREAM_API_KEY": "k"}

    assert load({}, environ=environ, directory=tmp_path) == DEFAULTS


def test_what_kubernetes_says_about_a_service_of_our_name_is_no_setting(tmp_path: Path) -> None:
    environ = {
        "MILLSTREAM_PORT": "tcp://10.0.0.1:80",
        "MILLSTREAM_SERVICE_HOST": "10.0.0.1",
        "MILLSTREAM_SERVICE_PORT": "80",
        "MILLSTREAM_SERVICE_PORT_HTTP": "80",
        "MILLSTREAM_PORT_80_TCP": "tcp://10.0.0.1:80",
        "MILLSTREAM_PORT_80_TCP_ADDR": "10.0.0.1",
        "MILLSTREAM_HEADLESS_SERVICE_HOST": "10.0.0.2",
        "METRICS_PORT": "tcp://10.0.0.3:9090",
    }

    assert load({}, environ=environ, directory=tmp_path) == DEFAULTS


@pytest.mark.parametrize("name", ["PGBOUNCER_HOST", "PGBOUNCER_PORT", "WORKER_STALE_THRESHOLD"])
def test_a_variable_of_old_deployments_that_has_no_effect_is_mentioned(tmp_path: Path, name: str) -> None:
    (notice,) = load({}, environ={name: "x-value"}, directory=tmp_path).notices

    assert notice.startswith(f"{name} is set but not read")
    assert "x-value" not in notice


def test_a_data_directory_beside_a_database_url_is_mentioned(tmp_path: Path) -> None:
    config = load(
        {"database.data_dir": tmp_path}, environ={"DATABASE_URL": "postgres://h/d"}, directory=tmp_path
    )

    assert config.notices == ("a database URL is given, so the data directory is not used",)


def test_the_file_has_a_table_for_each_group_and_values_of_its_own_types(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        """
        [server]
        port = 3000
        shutdown_seconds = 1.5
        enable_hsts = true
        cors_allowed_origins = ["https://a.example", "https://b.example"]
        [log]
        level = "info,millstream.engine=debug"
        [otel]
        resource_attributes = { "team" = "a, b" }
        """
    )

    config = load({}, environ={}, file=file, directory=tmp_path)

    assert config.server.port == 3000
    assert config.server.shutdown_seconds == 1.5
    assert config.server.enable_hsts is True
    assert config.server.cors_allowed_origins == ("https://a.example", "https://b.example")
    assert config.otel.resource_attributes == (("team", "a, b"),)


def test_a_named_file_takes_the_place_of_the_one_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text("[server]\nport = 1\n")
    (tmp_path / "other.toml").write_text("[server]\ngrpc_port = 2\n")

    server = load({}, environ={}, file=tmp_path / "other.toml", directory=tmp_path).server

    assert (server.port, server.grpc_port) == (8080, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nprot = 1\n", "server.prot in millstream.toml is no setting; did you mean server.port?"),
        ("port = 1\n", "port in millstream.toml is no setting"),
        ("[server]\nport = 0\n", "server.port in millstream.toml must be a whole number from 1 to 65535"),
        ("[server]\nport = true\n", "server.port in millstream.toml must be a whole number from 1 to 65535"),
        (
            "[server]\nport = 2020-01-01\n",
            "server.port in millstream.toml must be a whole number from 1 to 65535",
        ),
        ("[security]\njwt_secret = hunter2\n", "millstream.toml is not valid TOML (at line 2, column 14)"),
        ("a = 1\na = 2", "millstream.toml is not valid TOML (at end of document)"),
    ],
)
def test_a_file_with_mistakes_stops_the_start(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "millstream.toml").write_text(text)

    (found,) = problems_of(tmp_path)

    assert found.startswith(problem)
    assert "hunter2" not in found


def test_a_named_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, environ={}, file=tmp_path / "gone.toml", directory=tmp_path)

    assert refused.value.problems == ["gone.toml cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("millstream.toml", b"\xff", "millstream.toml cannot be read: it is not UTF-8"),
        (".env", b"PORT=\xff", ".env cannot be read: it is not UTF-8"),
        (".env", b"A=1\nJWT_SECRET='hunter2\n", ".env cannot be read at line 2"),
        (".env", b"PORT=x\n", "PORT in .env must be a whole number from 1 to 65535"),
        (
            ".env",
            b"MILLSTREAM_PROT=1\n",
            "MILLSTREAM_PROT in .env is no setting; did you mean MILLSTREAM_PORT?",
        ),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)

    assert problems_of(tmp_path) == [problem]


def test_dotenv_may_quote_comment_and_export(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# ours\nexport PORT=3000 # http\nJWT_SECRET='a#b $HOME'\nEMPTY\n")

    config = load({}, environ={}, directory=tmp_path)

    assert config.server.port == 3000
    assert config.security.jwt_secret == Secret("a#b $HOME")


def test_the_schema_and_the_table_have_the_same_settings_and_no_spelling_twice() -> None:
    fields = [
        f"{group.name}.{field.name}"
        for group in msgspec.structs.fields(Config)
        if group.name != "notices"
        for field in msgspec.structs.fields(getattr(DEFAULTS, group.name))
    ]
    spellings = [name for setting in SETTINGS for name in (setting.name, *(a.name for a in setting.aliases))]

    assert sorted(fields) == sorted(setting.path for setting in SETTINGS)
    assert len(spellings) == len(set(spellings))
    assert all(setting.name.startswith("MILLSTREAM_") for setting in SETTINGS)


def test_the_documented_table_has_every_setting_with_its_default() -> None:
    rows = {row.path: row for row in settings_table()}

    assert len(rows) == len(SETTINGS)
    assert rows["server.host"].default == "127.0.0.1; in staging and production 0.0.0.0"
    assert rows["rate_limit.burst"].aliases == ("RATE_LIMIT_BURST_SIZE", "RATE_LIMIT_BURST")
    assert default_of("server.port") == 8080
    lines = settings_markdown().splitlines()
    assert len(lines) == len(SETTINGS) + 2
    assert {line.count(" | ") for line in lines[2:]} == {5}


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hunter2")
    config = load({}, environ={"JWT_SECRET": "hunter2", "DATABASE_URL": "postgres://hunter2@h/d"})

    assert secret.reveal() == "hunter2"
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr(config), repr([secret])):
        assert "hunter2" not in text
    with pytest.raises(TypeError):
        msgspec.json.encode(config)


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
    assert Secret("a")
    assert not Secret("")
    assert repr(Secret("")) == "Secret(empty)"


@pytest.mark.parametrize(
    ("given", "matches"), [("hunter2", True), ("hunter", False), ("", False), ("hunter2\udcff", False)]
)
def test_a_secret_knows_its_match(given: str, *, matches: bool) -> None:
    assert Secret("hunter2").matches(given) is matches


def test_an_empty_secret_matches_nothing() -> None:
    assert not Secret("").matches("")


def test_settings_can_be_handed_to_a_child_process(tmp_path: Path) -> None:
    config = load({}, environ={"JWT_SECRET": "hunter2", "PORT": "81"}, directory=tmp_path)

    assert pickle.loads(pickle.dumps(config)) == config


def test_metrics_cannot_be_shared_once_the_library_has_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", sys)

    with pytest.raises(RuntimeError):
        share_metrics(tmp_path)

    assert shared_metrics_directory() is None


def test_reading_settings_loads_no_other_part_of_the_server() -> None:
    script = (
        "import sys, millstream.config as c; c.load({}, environ={});"
        "print([m for m in ('asyncpg', 'starlette', 'prometheus_client', 'structlog') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
