"""Every example of the README and of the guide is run against a live server, as a reader would."""

import re
from pathlib import Path
from typing import Protocol

import httpx2
import pytest

from tests.docs.markdown import Page
from tests.docs.page_runner import Surroundings, run_page

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide"
EXECUTED = [ROOT / "README.md", *sorted(GUIDE.glob("*.md"))]
LINKED = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


class LiveServer(Protocol):
    url: str


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# What a newcomer reads first is run all the time; together the pages take a minute.
FIRST = ("README.md", "jobs.md", "queues.md", "topics.md", "http.md")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.name in FIRST else [pytest.mark.slow]) for path in EXECUTED],
    ids=_name,
)
def test_the_examples_of_a_page_do_what_it_says(path: Path, surroundings: Surroundings) -> None:
    run_page(Page.load(path), surroundings)


@pytest.mark.parametrize("path", LINKED, ids=_name)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    assert Page.load(path).broken_links() == []


def test_every_page_of_the_guide_is_in_its_index() -> None:
    index = (GUIDE / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in GUIDE.glob("*.md") if path.name != "README.md" and f"({path.name})" not in index
    ] == []


def test_the_table_of_calls_lists_what_the_server_serves(server: LiveServer) -> None:
    page = (GUIDE / "http.md").read_text(encoding="utf-8")
    table = page.partition("## Calls")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([A-Z]+) (/\S+)` \|(.*)$", table, re.MULTILINE)
    document = httpx2.get(f"{server.url}/api/v1/openapi.json").json()
    served = {
        (method.upper(), path): "x-millstream-extension" in operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {(method, path): "extension of ours" in rest for method, path, rest in listed} == served
