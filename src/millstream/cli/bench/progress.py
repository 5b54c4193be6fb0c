"""Progress of a run on the terminal: one bar per step."""

from collections.abc import Callable
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

ProgressCallback = Callable[[str, float, str], None]


class ProgressBars:
    """A bar for each step of a scenario, drawn on `console`. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.fields[figure]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "ProgressBars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, step: str, part: float, figure: str) -> None:
        """Draw that `part` (0 to 1) of `step` is done and show `figure` beside it."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=1.0, figure="")
        self._progress.update(self._tasks[step], completed=part, figure=figure)


def timed(note: ProgressCallback, step: str, seconds: float) -> Callable[[int], None]:
    """A callback for the items done so far that draws a phase of `seconds`."""
    started_at = perf_counter()

    def on_items(items: int) -> None:
        elapsed = max(perf_counter() - started_at, 1e-6)
        note(step, min(elapsed / seconds, 1.0), f"{items / elapsed:,.0f} /s")

    return on_items
