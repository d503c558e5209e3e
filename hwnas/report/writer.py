"""Reads what a run directory holds for its report, and writes the report's files into it: all rendered before the first is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.config import read_yaml
from hwnas.errors import RunError
from hwnas.report import figures, markdown, page, points, stills, table
from hwnas.report.content import Front, Report, Trial, measure, primary, source
from hwnas.report.facts import warning
from hwnas.resources import write_bytes

ID = re.compile(r"\w[\w.-]*", re.ASCII)  # of a student or a target: a plain file name


def write(run_dir: Path, front: Front, trials: Sequence[Trial]) -> None:
    """Write the report of the run in `run_dir`: report.md, report.html, front.csv and figures.

    Args:
        front: the content of `front.json`.
        trials: one row a candidate, as `from_log` makes them.

    Raises:
        RunError: a file of the run is damaged, or one of the report cannot be written.
    """
    put(run_dir, render(gather(run_dir, front, trials)))


def put(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write `files` (name -> content) into `folder`; returns their paths.

    Raises:
        RunError: a file cannot be written.
    """
    for name, content in files.items():
        write_bytes(folder / name, content)
    return [folder / name for name in files]


def render(report: Report) -> dict[str, bytes]:
    """Name -> content of every file of the report."""
    front = report.front
    cloud, metric = points.cloud(front, report.trials), measure(primary(front)).axis
    heading = f"{front.get('task')} on {front.get('profile')}: {len(cloud.front)} students on the front ({source(front)} data)"
    heading += f"\n{warning(front)}" if warning(front) else ""
    drawn = {
        "figures/pareto.png": figures.png(cloud, f"{metric} (validation, int8)", heading),
        "figures/history.png": stills.history(report),
        "figures/calibration.png": stills.calibration(report),
    }
    pictures = {name: content for name, content in drawn.items() if content is not None}
    return {
        "front.csv": table.render(front).encode(),
        **pictures,
        "report.md": markdown.render(report, list(pictures)).encode(),
        "report.html": page.render(report).encode(),
    }


def gather(run_dir: Path, front: Front, trials: Sequence[Trial]) -> Report:
    """The report of a run, with what its folder holds beyond `front.json` and `trials.jsonl`; what is not there is left out.

    Raises:
        RunError: a file cannot be read, or a student has an identity that is no file name.
    """
    students = [str(s["id"]) for s in (*front.get("students", []), *front.get("fallen", []))]
    if bad := [identity for identity in students if not ID.fullmatch(identity)]:
        raise RunError(f"{run_dir / 'front.json'}: a student's id is a file name of letters and digits, got {bad[0]!r}; restore the file")
    folders = {identity: run_dir / "students" / identity for identity in students}
    return Report(
        front,
        trials,
        portraits=_each(folders, "portrait.json"),
        benches=_each(folders, "bench.json"),
        boards={s: found for s in students if (found := _boards(run_dir / "boards" / s, folders[s] / "card.json", front.get("profile")))},
        run_yaml=read_yaml(run_dir / "run.yaml") if (run_dir / "run.yaml").exists() else {},
    )


def _each(folders: Mapping[str, Path], name: str) -> dict[str, dict[str, Any]]:
    """Identity -> the content of file `name` of every student that has one."""
    return {identity: read_object(folder / name) for identity, folder in folders.items() if (folder / name).exists()}


def _boards(folder: Path, card: Path, profile: str | None) -> dict[str, dict[str, Any]]:
    """Target -> what `hwnas bench` found there, by name."""
    if not folder.is_dir():
        return {}
    weights = read_object(card).get("weights_hash") if card.exists() else None
    return {path.stem: _labelled(read_object(path), weights, profile) for path in sorted(folder.glob("*.json"))}


def _labelled(found: dict[str, Any], weights: str | None, profile: str | None) -> dict[str, Any]:
    """The same, its provenance saying where it is of other weights or another hardware profile than the run's student."""
    said = [str(found.get("provenance") or "provenance not stated")]
    if weights is not None and found.get("weights_hash") not in (None, weights):
        said.append(f"of other weights than the student's ({found['weights_hash']})")
    if profile is not None and found.get("profile") not in (None, profile):
        said.append(f"hardware profile {found['profile']}")
    return found | {"provenance": "; ".join(said)} if len(said) > 1 else found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; RunError for anything else, NaN and infinities included."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(content).__name__}; restore the file")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
