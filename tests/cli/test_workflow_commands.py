"""`millstream workflow` against a running server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.test_job_commands import ask, show

__all__ = ["ask", "show"]

Ask = Callable[..., Any]


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A file with a diamond."""
    queue = f"queue-{uuid4().hex[:8]}"

    def job(key: str, *depends_on: str) -> dict[str, object]:
        return {"key": key, "queue_name": queue, "payload": {"step": key}, "depends_on": [*depends_on]}

    path = tmp_path / "diamond.json"
    jobs = [job("fetch"), job("left", "fetch"), job("right", "fetch"), job("join", "left", "right")]
    path.write_text(json.dumps({"name": "diamond", "jobs": jobs}))
    return path


def test_a_workflow_is_created_shown_and_cancelled(
    ask: Ask, show: Callable[..., str], definition: Path
) -> None:
    created = ask("workflow", "create", str(definition))
    workflow_id = created["workflow_id"]
    assert [job["key"] for job in created["job_ids"]] == ["fetch", "left", "right", "join"]
    assert workflow_id in [row["id"] for row in ask("workflow", "list", "--status", "pending")]
    assert ask("workflow", "show", workflow_id)["total_jobs"] == 4
    tree = show("workflow", "show", workflow_id).splitlines()
    assert tree[0] == "diamond  pending  0/4 completed"
    # Below each job stands what waits for it.
    keys = ("fetch", "left", "right", "join")
    depths = {key: line.index(key) for line in tree[1:] for key in keys if f"{key}  " in line}
    assert depths["fetch"] < depths["left"] == depths["right"] < depths["join"]
    assert any("join  pending" in line and "(and after left)" in line for line in tree)
    assert "is cancelled" in show("workflow", "cancel", workflow_id)
    shown = show("workflow", "show", workflow_id, "--follow")
    assert shown.count("  cancelled  ") == 5
    assert show("workflow", "list").splitlines()[0].split() == [
        "id",
        "name",
        "status",
        "jobs",
        "failed",
        "created",
    ]


def test_what_is_refused_says_why(ask: Ask, definition: Path, tmp_path: Path) -> None:
    created = ask("workflow", "create", str(definition))
    assert ask("workflow", "retry", created["workflow_id"], code=1)["error"].startswith("Only failed")
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": "n"}')
    assert "missing required field `jobs`" in ask("workflow", "create", str(broken), code=1)["error"]
    assert "cannot be read" in ask("workflow", "create", str(tmp_path / "none"), code=1)["error"]
