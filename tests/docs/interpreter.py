"""Runs the Python blocks of a page one after the other, as if they were typed into one session.

A program of its own: reads one JSON object a line, executes its `source`, and answers with `error`, the
traceback or null.
"""

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
    """Execute what comes in, until there is no more."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    answers = sys.stdout
    for line in sys.stdin:
        block = json.loads(line)
        # The lines above, so that a traceback names the line of the page.
        source = "\n" * (block["line"] - 1) + block["source"]
        error = None
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                exec(compile(source, block["page"], "exec"), namespace)  # noqa: S102 - examples are for executing
            except BaseException:  # noqa: BLE001 - SystemExit too: an example does not end its reader's session
                error = traceback.format_exc()
        print(json.dumps({"error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
