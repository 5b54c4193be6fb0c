"""The runner of the guide's examples is able to fail."""

from pathlib import Path

import pytest

from tests.docs.console import WrongExample, check_shown, read_commands
from tests.docs.markdown import Page
from tests.docs.page_runner import Surroundings, run_page

FENCE = "```"


def page_of(*blocks: tuple[str, str], at: Path = Path("sample.md")) -> Page:
    return Page(at, "\n".join(f"Words.\n\n{FENCE}{kind}\n{text}\n{FENCE}\n" for kind, text in blocks))


@pytest.fixture
def alone(tmp_path: Path) -> Surroundings:
    """Surroundings without a server, for samples that need none."""
    return Surroundings(tmp_path, {"PATH": "/usr/bin:/bin"}, {"http://localhost:8080": "http://there:1"})


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("python", "raise ValueError('no such thing')", "no such thing"),
        ("python", "def broken(:", "SyntaxError"),
        ("python", "raise SystemExit(0)", "SystemExit"),
        ("python", "import os; os._exit(0)", "the session ended"),
        ("console", "$ exit 3", "exit code 3"),
        ("console", "$ no-such-command", "exit code 127"),
        ("console", "$ echo one\ntwo", "'two'"),
        ("console", "$ echo 'a b c'\na … d", "'a … d'"),
        ("console", "$ echo one two\none", "'one'"),
        ("console", "$ true\n$ false", "exit code 1"),
        ("console", "output without a command", "begins with a command"),
        ("console", "", "has no command"),
        ("json", '{"a": }', "no JSON"),
        ("toml", "[server]\nport = 'many'", "port"),
        ("toml", "[server]\nprot = 80", "prot"),
        ("bash", "true", "'bash'"),
        ("", "true", "''"),
        ("Python", "pass", "'Python'"),
    ],
)
def test_a_wrong_example_is_found(kind: str, text: str, complaint: str, alone: Surroundings) -> None:
    with pytest.raises(WrongExample, match=complaint) as raised:
        run_page(page_of((kind, text)), alone)
    assert raised.value.__notes__ == ["in sample.md, line 4"]


def test_a_block_without_a_fence_is_found(alone: Surroundings) -> None:
    with pytest.raises(WrongExample, match="indented"):
        run_page(Page(Path("sample.md"), "Words.\n\n    $ true\n"), alone)


def test_a_right_page_passes_and_is_counted(alone: Surroundings) -> None:
    page = page_of(
        ("console", "$ A=1\n$ echo a$A \\\n    b > file; cat file\na1   b"),
        ("python", "text = open('file').read()\nprint('not in the way')"),
        ("text", "$ exit 1"),
        ("python", "assert text == 'a1 b\\n' and __name__ == '__main__'"),
        ("console", "$ echo begun $A at noon ended\nbegun … ended"),
        ("json", '{"a": 1}'),
        ("toml", "[server]\nport = 8081"),
    )
    assert run_page(page, alone) == 6


def test_a_later_block_cannot_do_without_an_earlier_one(alone: Surroundings) -> None:
    with pytest.raises(WrongExample, match="NameError"):
        run_page(page_of(("python", "print(client)")), alone)


def test_a_traceback_names_the_line_of_the_page(alone: Surroundings) -> None:
    with pytest.raises(WrongExample, match=r'"sample.md", line 5'):
        run_page(page_of(("python", "x = 1\nx / 0")), alone)


def test_addresses_are_those_of_the_live_server(alone: Surroundings) -> None:
    page = page_of(
        ("console", "$ echo http://localhost:8080/api\nhttp://localhost:8080/api"),
        ("python", "assert 'http://localhost:8080' == 'http:' + '//there:1'"),
    )
    assert run_page(page, alone) == 2


def test_commands_take_their_continuation_lines() -> None:
    first, second = read_commands("$ curl a \\\n    -d b\nanswer\n$ next\n")
    assert (first.text, first.shown) == ("curl a \\\n    -d b", ["answer"])
    assert (second.text, second.shown) == ("next", [])


def test_shown_lines_may_leave_out_lines_and_widths() -> None:
    check_shown(["id   queue", "", "…  mail"], "title\nid queue\n\n01a2    mail\nend\n")


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("there.md", False),
        ("there.md#a-heading-with-code", False),
        ("#here", False),
        ("https://example.org/absent", False),
        ("absent.md", True),
        ("there.md#absent", True),
        ("#absent", True),
    ],
)
def test_a_broken_link_is_found(link: str, is_broken: bool, tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("## A heading, with `code`\n")
    page = Page(tmp_path / "here.md", f"# Here\n\n| a |\n|---|\n| [words]({link}) |\n")
    assert page.broken_links() == ([link] if is_broken else [])
