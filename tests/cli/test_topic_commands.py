"""`millstream topic` and `group` against a running server."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from millstream.cli.main import main
from tests.cli.server_process import ServerProcess

# What a command prints is as varied as the commands are.
Ask = Callable[..., Any]


@pytest.fixture
def ask(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command with --json on the module's server; returns what it printed."""

    def run(*arguments: str, code: int = 0) -> object:
        capsys.readouterr()
        assert main([*arguments, "--data-dir", str(server.data_dir), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def show(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command as people do; returns the text."""

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*arguments, "--data-dir", str(server.data_dir)]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.fixture
def topic(ask: Ask) -> str:
    name = f"topic-{uuid4().hex[:8]}"
    assert ask("topic", "create", name, "--partitions", "2")["partitions"] == 2
    return name


def test_a_topic_is_created_listed_described_and_deleted(
    ask: Ask, show: Callable[..., str], topic: str
) -> None:
    assert topic in ask("topic", "list")
    assert ask("topic", "describe", topic)["partition_offsets"]["1"] == {"earliest": 0, "latest": -1}
    assert "partition" in show("topic", "describe", topic)
    assert "topic already exists" in show("topic", "create", topic, code=1)
    assert "Give --yes" in show("topic", "delete", topic, code=1)
    assert ask("topic", "delete", topic, "--yes") == {"name": topic, "deleted": True}
    assert topic not in show("topic", "list")


def test_messages_are_published_and_read(ask: Ask, show: Callable[..., str], topic: str) -> None:
    fields = ["--key", "ada", "--partition", "1", "--priority", "high", "--header", "a=b=c"]
    assert ask("topic", "publish", topic, "one", *fields)["results"] == [
        {"partition": 1, "offset": 0, "priority": "high"}
    ]
    assert "partition 0, offset 1" in show(
        "topic", "publish", topic, "two\n\nthree", "--lines", "--partition", "0"
    )
    assert "hidden until" in show("topic", "publish", topic, "later", "--delay", "1h")
    assert "invalid partition 7" in show("topic", "publish", topic, "x", "--partition", "7", code=1)
    assert "is no header" in show("topic", "publish", topic, "x", "--header", "a", code=1)
    [message] = ask("topic", "consume", topic, "--partition", "1")["messages"]
    assert (message["value"], message["key"], message["headers"]) == ("one", "ada", {"a": "b=c"})
    shown = show("topic", "consume", topic, "--limit", "1")
    assert "two" in shown
    assert "More: --offset 1" in shown
    assert "no partition 5" in show("topic", "tail", topic, "--partition", "5", code=1)
    lines = show("topic", "tail", topic, "--from-beginning", "--limit", "3").splitlines()
    assert sorted(line.split()[-1] for line in lines) == ["one", "three", "two"]


def test_a_group_is_shown_and_sent_back(
    ask: Ask, show: Callable[..., str], topic: str, server: ServerProcess
) -> None:
    ask("topic", "publish", topic, "1\n2\n3", "--lines", "--partition", "0")
    group = f"group-{uuid4().hex[:8]}"
    with httpx2.Client(base_url=server.url, timeout=40) as http:
        joined = http.post(f"/groups/{group}/join", json={"client_id": "w", "topics": [topic]}).json()
        query = {"member_id": joined["member_id"], "max_messages": 2, "timeout": "5s"}
        for message in http.get(f"/groups/{group}/poll", params=query).json()["messages"]:
            http.post("/messages/ack", json={"receipt_handle": message["receipt_handle"]})
    assert group in {one["id"] for one in ask("group", "list")}
    assert ask("group", "describe", group)["members"][0]["client_id"] == "w"
    lag = {one["partition"]: one for one in ask("group", "lag", group)}
    assert lag[0] == {"topic": topic, "partition": 0, "position": 2, "end": 3, "lag": 1}
    assert (lag[1]["end"], lag[1]["lag"]) == (0, 0)
    assert "1 messages behind" in show("group", "lag", group)
    moved = ask("group", "reset", group, topic, "--to", "earliest", "--partition", "0")
    assert moved["new_offsets"] == [{"topic": topic, "partition": 0, "offset": 0}]
    assert ask("group", "reset", group, topic, "--to", "latest", "--dry-run")["reset_count"] == 2
    assert ask("group", "reset", group, topic, "--to-offset", "1", "--partition", "0")["reset_count"] == 1
    assert "give one of" in show("group", "reset", group, topic, code=1)
    for words in (["group", "list"], ["group", "describe", group]):
        assert group in show(*words)
    assert "group not found" in show("group", "describe", "nobody-made-this", code=1)
