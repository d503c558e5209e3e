"""What a stage tells while it works. `Progress` is the seam; the command line draws it, tests and `--quiet` ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress."""

    def stage(self, title: str, total: int | None = None) -> None:
        """A new stage begins; `total` steps if that is known."""

    def step(self, done: int, note: str = "") -> None:
        """`done` steps of the stage are finished; `note` is the most useful figure so far."""

    def say(self, message: str) -> None:
        """One line that stays."""


class Silent:
    """Shows nothing."""

    def stage(self, title: str, total: int | None = None) -> None:
        """Ignored."""

    def step(self, done: int, note: str = "") -> None:
        """Ignored."""

    def say(self, message: str) -> None:
        """Ignored."""
