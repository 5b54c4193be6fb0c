"""Writes the blocking client from the asyncio one, and the calls of workflows likewise, so that nobody keeps twins by hand.

`python scripts/generate_sync_client.py` rewrites `_sync` from `_async` in both packages; `--check` writes
nothing and exits 1, naming the files, when that would change any of them. Works on tokens: `async` and
`await` go, names change, everything else stays; ruff then formats the result.
"""

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGES = (SOURCE / "millstream" / "client", SOURCE / "millstream" / "pgwf")

NAMES = {
    "_async": "_sync",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "StopAsyncIteration": "StopIteration",
}

DOCSTRINGS = {"__init__.py": '"""The blocking calls, generated from `_async`: change that one instead."""\n'}


def main() -> int:
    """Generate, or compare with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on any difference")
    check: bool = parser.parse_args().check
    outcomes = [synchronize(package, check=check) for package in PACKAGES]
    return 1 if check and any(outcomes) else 0


def synchronize(package: Path, *, check: bool) -> bool:
    """Generate the twins of one package, or compare them; returns whether any differed."""
    target = package / "_sync"
    expected = {path.name: generate(path, target) for path in sorted((package / "_async").glob("*.py"))}
    present = {path.name: path.read_text("utf-8") for path in target.glob("*.py")}
    different = sorted(
        name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name)
    )
    for name in different:
        print(f"{'differs' if check else 'writing'}: {(target / name).relative_to(SOURCE)}")
        if not check:
            write(target / name, expected.get(name))
    return bool(different)


def write(path: Path, text: str | None) -> None:
    """Replace the file, or remove it when its source is gone."""
    if text is None:
        path.unlink()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


def generate(source: Path, target: Path) -> str:
    """The blocking twin of one file."""
    if source.name in DOCSTRINGS:
        return DOCSTRINGS[source.name]
    name = str(target / source.name)
    text = transform(source.read_text("utf-8"))
    text = ruff(["check", "--select", "I", "--fix", "--quiet", "--stdin-filename", name, "-"], text)
    return ruff(["format", "--quiet", "--stdin-filename", name, "-"], text)


def transform(source: str) -> str:
    """Turn asyncio code into blocking code, token by token."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return tokenize.untokenize(list(_blocking(tokens)))


def _blocking(tokens: Iterator[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    row, shift, keyword_column = 0, 0, 0
    after_keyword = False
    for token in tokens:
        if token.start[0] != row:
            row, shift = token.start[0], 0
        if after_keyword:
            # The keyword's place, and the space behind it, go to what follows.
            shift, after_keyword = keyword_column - token.start[1], False
        if token.string in {"async", "await"} and token.type in {
            tokenize.NAME,
            tokenize.ASYNC,
            tokenize.AWAIT,
        }:
            keyword_column, after_keyword = token.start[1] + shift, True
            continue
        text = token.string
        if token.type == tokenize.NAME:
            text = blocking_name(text)
        elif token.type in {tokenize.STRING, tokenize.COMMENT}:
            text = blocking_text(text)
        start = (token.start[0], token.start[1] + shift)
        multiline = token.end[0] != token.start[0]
        end = token.end if multiline else (token.end[0], start[1] + len(text))
        yield tokenize.TokenInfo(token.type, text, start, end, token.line)
        if multiline:
            row, shift = token.end[0], 0
        else:
            shift += len(text) - len(token.string)


def blocking_name(name: str) -> str:
    """`AsyncJobs` becomes `Jobs`, `run_async` becomes `run`, `__aenter__` becomes `__enter__`."""
    return NAMES.get(name) or re.sub(r"^(_?)Async(?=[A-Z])", r"\1", name).removesuffix("_async")


def blocking_text(text: str) -> str:
    """Names and keywords inside docstrings, their examples, and comments."""
    text = re.sub(r"\b(?:await |async (?=def|with|for))", "", text)
    return re.sub(r"\b_?\w+\b", lambda match: blocking_name(match[0]), text).replace("asyncio", "threads")


def ruff(arguments: list[str], text: str) -> str:
    """Pass `text` through ruff."""
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
