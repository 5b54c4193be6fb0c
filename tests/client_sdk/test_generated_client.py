import shutil
import subprocess
import sys
from pathlib import Path

from scripts.generate_sync_client import transform

ROOT = Path(__file__).resolve().parents[2]


def _check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )


def test_the_blocking_client_is_what_the_asyncio_client_generates() -> None:
    checked = _check(ROOT / "scripts" / "generate_sync_client.py")

    assert (checked.returncode, checked.stdout) == (0, "")


def test_a_difference_is_found_and_named(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "generate_sync_client.py"
    shutil.copy(ROOT / "scripts" / "generate_sync_client.py", script)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    client = tmp_path / "src" / "millstream" / "client"
    shutil.copytree(ROOT / "src" / "millstream" / "client", client)
    assert _check(script).returncode == 0
    (client / "_sync" / "jobs.py").write_text("changed = True\n")
    (client / "_sync" / "left_over.py").write_text("")
    (client / "_sync" / "queues.py").unlink()

    checked = _check(script)

    assert checked.returncode == 1
    assert [Path(line.split(": ")[1]).name for line in checked.stdout.splitlines()] == [
        "jobs.py",
        "left_over.py",
        "queues.py",
    ]
    assert (client / "_sync" / "jobs.py").read_text() == "changed = True\n"


def test_code_strings_and_comments_become_blocking() -> None:
    source = '''\
from millstream.client._async.transport import AsyncTransport


class AsyncThing:
    """Use `async with AsyncThing()` and `await thing.aclose()`."""

    async def __aenter__(self) -> "AsyncThing":
        async for row in self.rows(await self.first(), await self.second()):
            yield row  # await nothing
        return [await x async for x in self]
'''

    assert (
        transform(source)
        == '''\
from millstream.client._sync.transport import Transport


class Thing:
    """Use `with Thing()` and `thing.close()`."""

    def __enter__(self) -> "Thing":
        for row in self.rows(self.first(), self.second()):
            yield row  # nothing
        return [x for x in self]
'''
    )
