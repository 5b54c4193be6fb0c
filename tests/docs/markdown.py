"""What a Markdown page holds: its code blocks, its links, and the anchors that others may link to."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

# What stands for a code block without a fence, which says nothing of its kind.
INDENTED = "indented"


@dataclass(frozen=True)
class Block:
    """A code block: what the fence calls it, its text, and the line on which that begins."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page by its path, so that links are resolved from there."""

    path: Path
    text: str

    @classmethod
    def load(cls, path: Path) -> "Page":
        """Read a page."""
        return cls(path, path.read_text(encoding="utf-8"))

    def blocks(self) -> list[Block]:
        """Return the code blocks in order."""
        found: list[Block] = []
        for token in self._tokens():
            first = token.map[0] + 1 if token.map else 0
            if token.type == "fence":
                found.append(Block(token.info.strip(), token.content, first + 1))
            elif token.type == "code_block":
                found.append(Block(INDENTED, token.content, first))
        return found

    def anchors(self) -> set[str]:
        """Return the names of the headings in links."""
        tokens = self._tokens()
        return {
            _slug(following.content) for token, following in pairwise(tokens) if token.type == "heading_open"
        }

    def broken_links(self) -> list[str]:
        """Return the links to files, pages and headings that are not there. The web is not asked."""
        return [link for link in self._links() if not self._leads_somewhere(link)]

    def _leads_somewhere(self, link: str) -> bool:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            return True
        place, _, anchor = link.partition("#")
        target = self.path.parent / place
        if place and not (target.exists() and anchor):
            return target.exists()
        page = Page.load(target) if place else self
        return anchor in page.anchors()

    def _links(self) -> Iterator[str]:
        for token in self._tokens():
            for child in token.children or []:
                link = child.attrGet("href") or child.attrGet("src")
                if link is not None:
                    yield str(link)

    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").parse(self.text)


def _slug(heading: str) -> str:
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")
