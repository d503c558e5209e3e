"""Writes the report's files into a run directory, each of them whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwnas.report import figures, markdown, page, points, table
from hwnas.report.content import Front, Trial, measure, primary, source
from hwnas.report.facts import warning
from hwnas.report.sections import sections
from hwnas.resources import write_bytes, write_text


def write(run_dir: Path, front: Front, trials: Sequence[Trial]) -> None:
    """Write report.md, report.html, front.csv and figures/pareto.png into `run_dir`.

    Args:
        front: the content of `front.json`.
        trials: one row a candidate, as `from_log` makes them.

    Raises:
        RunError: a file cannot be written.
    """
    cloud, content, metric = points.cloud(front, trials), sections(front, trials), measure(primary(front)).axis
    heading = f"{front.get('task')} on {front.get('profile')}: {len(cloud.front)} students on the front ({source(front)} data)"
    heading += f"\n{warning(front)}" if warning(front) else ""
    write_text(run_dir / "front.csv", table.render(front))
    write_bytes(run_dir / "figures" / "pareto.png", figures.png(cloud, f"{metric} (validation, int8)", heading))
    write_text(run_dir / "report.md", markdown.render(front, content))
    write_text(run_dir / "report.html", page.render(front, content, cloud))
