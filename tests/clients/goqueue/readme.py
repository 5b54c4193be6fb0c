"""The examples of the published client's README, as they stand there."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import metadata
from typing import Any

ADDRESS = "http://localhost:8080"
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def example(heading: str) -> str:
    """The code below a heading."""
    description = metadata("goqueue-client")["Description"]
    parts = re.split(r"^#{2,3} (.+)$", description, flags=re.MULTILINE)
    section = parts[parts.index(heading) + 1]
    found = _BLOCK.search(section)
    assert found is not None, heading
    return found[1]


async def run(code: str, names: dict[str, Any], url: str | None = None) -> None:
    """Run code that may await at its top, with `names` in sight; only the server's address is another one."""
    if url is not None:
        assert ADDRESS in code
        code = code.replace(ADDRESS, url)
    compiled = compile(code, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)  # noqa: S307 - the published example
    if inspect.isawaitable(result):
        await result
