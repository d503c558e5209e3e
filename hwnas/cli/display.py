"""Progress on a terminal: one live line a stage, with what is done, the best figure so far and the time left. Writes to standard error."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TerminalProgress:
    """Draws what the pipeline tells (`hwnas.pipeline.progress.Progress`); a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def stage(self, title: str, total: int | None = None) -> None:
        """Close the line of the last stage and begin one for the next."""
        self._finish()
        self._task = self._bars.add_task(title, total=total, note="")
        if not self._console.is_terminal:
            self._console.print(title)

    def step(self, done: int, note: str = "") -> None:
        """Move the line of the stage."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, note=note)

    def say(self, message: str) -> None:
        """A line that stays above the live ones."""
        self._bars.console.print(message, highlight=False)

    def _finish(self) -> None:
        if self._task is not None:
            task = next(t for t in self._bars.tasks if t.id == self._task)
            self._bars.update(self._task, total=task.total or task.completed or 1, completed=task.total or task.completed or 1)
            self._bars.stop_task(self._task)
