"""Writes the tables of the guide from the code that they describe, so that they cannot go stale.

`python scripts/generate_docs.py` replaces what stands between `<!-- generated: NAME -->` and `<!-- end -->`;
`--check` writes nothing and exits 1, naming the pages, when that would change any of them.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from millstream.config.settings_table import settings_markdown
from millstream.domain.plan import plans_table
from millstream.domain.problems import problems_table
from millstream.observe.metrics import render_metrics

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide"

PART = re.compile(r"(?<=<!-- generated: )(?P<name>\w+)(?P<begin> -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main() -> int:
    """Generate, or compare with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on any difference")
    check: bool = parser.parse_args().check
    different = False
    unused = set(TABLES)
    for page in sorted(GUIDE.glob("*.md")):
        text = page.read_text("utf-8")
        unused -= names_in(text)
        generated = generate(text, TABLES)
        if generated != text:
            different = True
            print(f"{'differs' if check else 'writing'}: {page.relative_to(GUIDE.parents[1])}")
            if not check:
                page.write_text(generated, "utf-8")
    for name in sorted(unused):
        print(f"no page has a place for the table of {name}")
    return 1 if unused or (check and different) else 0


def names_in(text: str) -> set[str]:
    """The tables that a page has a place for."""
    return {part["name"] for part in PART.finditer(text)}


def generate(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with each of its tables made anew. Raises KeyError for one that nobody makes."""
    return PART.sub(lambda part: f"{part['name']}{part['begin']}\n{tables[part['name']]()}\n", text)


def metrics_table() -> str:
    """Return the server's own metrics as a Markdown table, in the order of their declaration."""
    rows = ["| Metric | Kind | Meaning |", "|---|---|---|"]
    exposition = render_metrics().decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition, re.MULTILINE))
    for name, meaning in re.findall(r"^# HELP (\w+) (.+)$", exposition, re.MULTILINE):
        if name.startswith(("spooled_", "millstream_")):
            rows.append(f"| `{name}` | {kinds[name]} | {meaning} |")
    return "\n".join(rows) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "metrics": metrics_table,
    "plans": plans_table,
    "problems": problems_table,
    "settings": settings_markdown,
}


if __name__ == "__main__":
    sys.exit(main())
