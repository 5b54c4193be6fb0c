"""A Python session of its own for the Python blocks of a page."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.console import WrongExample
from tests.docs.markdown import Block

INTERPRETER = Path(__file__).with_name("interpreter.py")


class PythonSession:
    """What one block defines, the next ones see."""

    def __init__(self, place: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            # -P: the files beside the interpreter are not for the examples to import.
            [sys.executable, "-P", str(INTERPRETER)],
            cwd=place,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, page: str, block: Block) -> None:
        """Execute a block. Raises WrongExample."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"page": page, "line": block.line, "source": block.text}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        error = json.loads(answer)["error"] if answer else "the session ended"
        if error is not None:
            raise WrongExample(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
