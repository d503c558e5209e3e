"""Progress of a run: on a terminal a live block for the stage at work, elsewhere plain lines. Writes to standard error.

A stage that ends leaves its title and its last figures; the live block is erased before anything else is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0


class TerminalProgress:
    """Shows what the pipeline tells (`hwnas.pipeline.progress.Progress`); a context manager."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        # Not is_terminal alone: FORCE_COLOR makes that true for a pipe, where a live block would fill a log.
        live = console.is_interactive and console.file.isatty()
        self._block = _Block(console=console, transient=True, refresh_per_second=4, get_time=clock) if live else None
        self._task: TaskID | None = None
        self._title = ""
        self._total: int | None = None
        self._began = self._told = clock()
        self._last = ""  # the last step, as far as it has not been printed

    def __enter__(self) -> TerminalProgress:
        if self._block:
            self._block.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close(", stopped" if kind else "")
        if self._block:
            self._block.stop()

    def stage(self, title: str, total: int | None = None) -> None:
        """Close the last stage and begin the next."""
        self._close()
        self._title, self._total = title, total
        self._began = self._told = self._clock()
        if self._block:
            self._task = self._block.add_task(title, total=total, note="", spinner=Spinner("dots", Text(title)))
        else:
            self._print(title)

    def step(self, done: int, note: str = "") -> None:
        """Move the stage; without a terminal a line at most every ten seconds, and one for the last step of the stage."""
        count = f"{done}/{self._total}" if self._total else str(done)
        self._last = f"  {count}  {note}".rstrip()
        if self._block and self._task is not None:
            self._block.update(self._task, completed=done, note=note)
        elif self._clock() - self._told >= PLAIN_EVERY_S:
            self._tell()

    def say(self, message: str) -> None:
        """A line that stays."""
        self._print(message)

    def _close(self, how: str = "") -> None:
        """Leave what stays of the stage at work; nothing if there is none."""
        if self._block and self._task is not None:
            self._block.remove_task(self._task)
            self._task = None
            self._print(f"{self._title} ({self._clock() - self._began:.0f} s{how})")
        if self._last:
            self._tell()

    def _tell(self) -> None:
        self._print(self._last)
        self._last, self._told = "", self._clock()

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def plain_table(name: str, *others: str) -> Table:
    """A plain table whose first column, the names people type, is never broken."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(name, no_wrap=True)
    for other in others:
        table.add_column(other)
    return table


class _Block(Progress):
    """The stage at work in up to three lines, so that neither its title nor its note is cut: title, bar with counts, note."""

    @classmethod
    def get_default_columns(cls) -> tuple[BarColumn, _Count, TimeElapsedColumn, TimeRemainingColumn]:
        return BarColumn(bar_width=24), _Count(), TimeElapsedColumn(), TimeRemainingColumn()

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield task.fields["spinner"]
            yield Padding(self.make_tasks_table([task]), (0, 0, 0, 2))
            if task.fields["note"]:
                yield Padding(Text(task.fields["note"]), (0, 0, 0, 2))


class _Count(MofNCompleteColumn):
    """Steps done and in all; nothing for a stage without steps."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)
