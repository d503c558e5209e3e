"""Run directory -> report.md, report.html, front.csv, figures/*.png, the terminal table; several runs -> a comparison. Writes those files.

Every figure is labelled with where it comes from (predicted, emulated; real or synthetic data), and no column holds two kinds.
"""

from __future__ import annotations

from hwnas.report.terminal import terminal_families, terminal_table
from hwnas.report.trials import from_log
from hwnas.report.writer import write

__all__ = ["from_log", "terminal_families", "terminal_table", "write"]
