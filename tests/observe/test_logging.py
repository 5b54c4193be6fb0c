"""Lines as an operator reads them, ours and those of libraries."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from millstream.config.schema import LogConfig, LogFilter, LogLevel
from millstream.observe.logging import configure_logging, get_logger, log_ids


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for name in ("uvicorn.error", "uvicorn.access"):
        # A server that ran in this process before has set its own, and may have cut off its access log.
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    yield
    configure_logging(LogConfig(), stream=io.StringIO())
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(
    *, json_lines: bool = True, level: LogLevel = LogLevel.INFO, targets: dict[str, LogLevel] | None = None
) -> io.StringIO:
    stream = io.StringIO()
    levels = LogFilter(default=level, targets=tuple((targets or {}).items()))
    configure_logging(LogConfig(json=json_lines, level=levels), stream=stream)
    return stream


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_logger_event_and_fields() -> None:
    stream = configured()

    get_logger("millstream.engine.jobs").warning("lease lost", job_id="j1", attempts=2)

    (line,) = lines_of(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "millstream.engine.jobs",
        "event": "lease lost",
        "job_id": "j1",
        "attempts": 2,
    }


def test_lines_for_people_are_plain_where_no_terminal_is() -> None:
    stream = configured(json_lines=False)

    get_logger("millstream.app").info("listening", port=8080)

    text = stream.getvalue()
    assert "listening" in text
    assert "port=8080" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("json_lines", [True, False])
def test_nothing_a_client_sent_starts_a_new_line_or_colours_a_terminal(*, json_lines: bool) -> None:
    stream = configured(json_lines=json_lines)

    get_logger("millstream").info("a\nb", worker_id="x\r\n\x1b[31mforged\u2028", **{"k\ney": "\ud800"})

    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert text.isascii() or text.rstrip("\n").isprintable()


def test_ids_of_the_block_are_on_every_line_in_it_and_on_none_after() -> None:
    stream = configured()
    log = get_logger("millstream")

    with log_ids(request_id="r1", tenant_id=7):
        log.info("one")
        logging.getLogger("library").warning("two")
    log.info("three")

    one, two, three = lines_of(stream)
    assert (one["request_id"], one["tenant_id"]) == ("r1", 7)
    assert (two["request_id"], two["tenant_id"]) == ("r1", 7)
    assert "request_id" not in three


def test_lines_of_libraries_look_like_ours() -> None:
    stream = configured()

    logging.getLogger("uvicorn.error").info("Started %s", "x")

    (line,) = lines_of(stream)
    assert (line["logger"], line["level"], line["event"]) == ("uvicorn.error", "info", "Started x")


@pytest.mark.parametrize("json_lines", [True, False])
def test_secrets_are_taken_out_of_our_lines_and_of_those_of_libraries(*, json_lines: bool) -> None:
    stream = configured(
        json_lines=json_lines, level=LogLevel.DEBUG, targets={"uvicorn.access": LogLevel.INFO}
    )

    get_logger("millstream").info("refused sk_live_hunter2", authorization="Bearer hunter2")
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/api/v1/ws?token=eyJhbGciOi.hunter2.x", "1.1", 101
    )
    logging.getLogger("asyncpg").error("cannot reach %s", "postgresql://u:hunter2@h/d")
    with log_ids(token="hunter2"):
        get_logger("millstream").info("bound")

    text = stream.getvalue()
    assert len(text.splitlines()) == 4
    assert "hunter2" not in text


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_traceback_is_written_without_secrets_and_without_local_variables(*, json_lines: bool) -> None:
    stream = configured(json_lines=json_lines)
    local = "hunter" + "3"

    try:
        raise ValueError("cannot reach postgresql://u:hunter2@h/d")
    except ValueError:
        get_logger("millstream").exception("request failed", request_id="r1")

    text = stream.getvalue()
    assert "ValueError" in text
    assert "test_a_traceback_is_written" in text
    assert "hunter2" not in text
    assert local not in text


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (LogLevel.DEBUG, ["debug", "info", "warning", "error", "critical"]),
        (LogLevel.INFO, ["info", "warning", "error", "critical"]),
        (LogLevel.WARNING, ["warning", "error", "critical"]),
        (LogLevel.ERROR, ["error", "critical"]),
        (LogLevel.CRITICAL, ["critical"]),
        (LogLevel.OFF, []),
    ],
)
def test_the_level_says_what_is_written(level: LogLevel, written: list[str]) -> None:
    stream = configured(level=level)
    log = get_logger("millstream")

    for write in (log.debug, log.info, log.warning, log.error, log.critical):
        write("line")

    assert [line["level"] for line in lines_of(stream)] == written


def test_a_target_has_its_own_level_with_what_is_below_it() -> None:
    stream = configured(level=LogLevel.ERROR, targets={"millstream.engine": LogLevel.DEBUG})

    get_logger("millstream.engine.jobs").debug("one")
    get_logger("millstream.engines").debug("two")
    get_logger("millstream.store").warning("three")

    assert [line["event"] for line in lines_of(stream)] == ["one"]


@pytest.mark.parametrize("name", ["uvicorn.access", "httpx2", "httpcore2.connection", "asyncio"])
def test_libraries_that_write_a_line_per_request_are_quiet_until_they_are_named(name: str) -> None:
    stream = configured()
    logging.getLogger(name).info("request")
    assert lines_of(stream) == []

    stream = configured(targets={name: LogLevel.INFO})
    logging.getLogger(name).info("request")
    assert [line["event"] for line in lines_of(stream)] == ["request"]


def test_quiet_libraries_are_not_louder_than_the_rest() -> None:
    stream = configured(level=LogLevel.ERROR)

    logging.getLogger("uvicorn.access").warning("request")

    assert lines_of(stream) == []


def test_the_last_configuration_counts_for_loggers_that_were_used_before() -> None:
    first = configured(level=LogLevel.DEBUG, targets={"millstream.engine": LogLevel.OFF})
    log = get_logger("millstream.engine")
    log.info("one")
    second = configured(level=LogLevel.INFO)
    log.debug("two")
    log.info("three")

    assert first.getvalue() == ""
    assert [line["event"] for line in lines_of(second)] == ["three"]


def test_logs_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(json=True))

    get_logger("millstream").info("here")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "here"
