"""What a person sees of a run's progress: whole figures at 80 columns, plain lines in a log, nothing left over before an error."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from hwnas.cli.display import TerminalProgress

NOTE = "proposed 1234, rejected 345, best af_auc 0.976, failed 2"
LONG = "distilling, exporting and emulating students"


class Screen(io.StringIO):
    """A terminal: what was written to it, and what a person sees of that in the end."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Play the text with the few controls that a live block uses: up, erase line, start of line."""
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row, column = row + 1, 0
                rows += [""] * (row == len(rows))
            elif part == "\r":
                column = 0
            elif part == "\x1b[2K":
                rows[row] = ""
            elif part.endswith("A") and part.startswith("\x1b"):
                row = max(row - int(part[2:-1] or 1), 0)
            elif not part.startswith("\x1b"):
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in rows if line.strip()]


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def _terminal(screen: Screen, width: int = 80) -> Console:
    return Console(file=screen, force_terminal=True, force_interactive=True, width=width, height=24, color_system=None)


def test_live_block_shows_title_counts_and_note_whole(screen: Screen, clock: Clock) -> None:
    display = TerminalProgress(_terminal(screen), clock)
    with display:
        display.stage(LONG, 30)
        clock.now = 5.0
        display.step(12, NOTE)
        assert display._block is not None
        display._block.refresh()
        seen = screen.lines()
    assert len(seen) == 3
    assert LONG in seen[0]
    assert "12/30" in seen[1]
    assert seen[2].strip() == NOTE
    assert max(map(len, seen)) <= 80


def test_a_finished_stage_leaves_its_last_figures_once(screen: Screen, clock: Clock) -> None:
    with TerminalProgress(_terminal(screen), clock) as display:
        display.stage("generating signals")
        clock.now = 2.0
        display.stage("searching", 30)
        display.step(29, "best af_auc 0.900")
        display.say("[a line] that stays")
        display.step(30, NOTE)
        clock.now = 63.0
    assert screen.lines() == ["generating signals (2 s)", "[a line] that stays", "searching (61 s)", f"  30/30  {NOTE}"]


def test_an_error_leaves_no_live_block(screen: Screen, clock: Clock) -> None:
    with pytest.raises(ValueError, match="gone"), TerminalProgress(_terminal(screen), clock) as display:
        display.stage("searching", 30)
        display.step(3, NOTE)
        assert display._block is not None
        display._block.refresh()
        raise ValueError("gone")
    assert screen.lines() == ["searching (0 s, stopped)", f"  3/30  {NOTE}"]
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("forced", [False, True])
def test_without_a_terminal_plain_lines_at_most_every_ten_seconds(clock: Clock, forced: bool) -> None:
    log = io.StringIO()
    console = Console(file=log, width=80, force_terminal=forced or None, color_system=None)
    with TerminalProgress(console, clock) as display:
        display.stage("reading recordings")
        display.stage("searching", 30)
        for second in range(1, 26):
            clock.now = float(second)
            display.step(second, NOTE + ", and a tail that makes the line longer than eighty columns")
        display.stage("freezing the front and writing the report")
    tail = f"{NOTE}, and a tail that makes the line longer than eighty columns"
    assert log.getvalue().splitlines() == [
        "reading recordings",
        "searching",
        *(f"  {n}/30  {tail}" for n in (10, 20, 25)),
        "freezing the front and writing the report",
    ]


def test_a_log_of_a_failed_stage_ends_where_it_stood(clock: Clock) -> None:
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), TerminalProgress(Console(file=log), clock) as display:
        display.stage("searching", 30)
        display.step(1)
        display.step(2, "best af_auc 0.9")
        raise KeyboardInterrupt
    assert log.getvalue().splitlines() == ["searching", "  2/30  best af_auc 0.9"]
