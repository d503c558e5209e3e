"""Run folders -> reports: one run's anew, or several side by side. Reads run folders, writes reports; nothing is trained or scored.

A folder is checked before anything is rendered, and everything is rendered before the first file is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from hwnas.errors import HwnasError, RunError, UsageError
from hwnas.report import comparison, from_log, writer
from hwnas.report.content import Report
from hwnas.report.runs import Run
from hwnas.search.trial_log import parse as parse_log

COMPARISONS = Path("runs") / "comparison"  # where several runs go whose user names no folder
# As `hwnas.pipeline.rundir` names them; importing that would load torch, of which a report has no need.
RUN_YAML, FRONT, TRIALS = "run.yaml", "front.json", "trials.jsonl"


class _Checked(BaseModel):
    """What a report cannot do without; what else a file holds is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _Metrics(_Checked):
    validation: dict[str, FiniteFloat]
    test: dict[str, FiniteFloat] | None = None


class _Student(_Checked):
    id: str
    folder: str
    family: str
    parameters: int
    macs: int
    cost: dict[str, dict[str, FiniteFloat | None]]
    metrics: _Metrics


class _Hardware(_Checked):
    core: str
    clock_hz: float


class _Front(_Checked):
    """The fields of `front.json` that every search writes."""

    profile: str
    task: str
    primary: str
    source: str
    seed: int
    split_seed: int
    chance_error: FiniteFloat
    hardware: _Hardware
    windows: dict[str, Any]
    budget: dict[str, FiniteFloat | None]
    search: dict[str, Any]
    teacher: dict[str, Any]
    students: list[_Student]
    fallen: list[_Student]


def load(root: Path) -> Report:
    """The report of the finished run in `root`.

    Raises:
        UsageError: the folder does not exist or is no run.
        RunError: the run is unfinished, or one of its files is missing or damaged (which one, and how).
    """
    _check_finished(root)
    front = writer.read_object(root / FRONT)
    try:
        _Front.model_validate(front)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{root / FRONT}: at '{where}': {first['msg']}; the file is damaged or of another version of hwnas") from error
    if not (root / TRIALS).exists():
        raise RunError(f"{root / TRIALS}: is missing; restore the file, or search anew with another --out")
    report = writer.gather(root, front, from_log(parse_log(root / TRIALS)[0]))
    folders = [root / "students" / s["id"] for s in report.students]
    if absent := [folder for folder in folders if not (folder / "card.json").exists()]:
        raise RunError(f"{absent[0]}: has no card.json, though front.json names this student; restore its folder")
    return replace(report, portraits=_portraits(root, report))


def _portraits(root: Path, report: Report) -> dict[str, Any]:
    """The portraits that students were given, and what can be said of those without: they are of runs before there were portraits."""
    missing = [str(s["id"]) for s in report.students if str(s["id"]) not in report.portraits]
    if not missing:
        return dict(report.portraits)
    from hwnas.pipeline.portrait import portrait_of  # it loads torch, of which other reports have no need

    return {**report.portraits, **{name: portrait_of(root / "students" / name) for name in missing}}


def rewrite(root: Path, out: Path | None = None) -> list[Path]:
    """Write the report files of the run in `root` anew from its other files, there or into `out`; returns them.

    Raises:
        HwnasError: as `load`; the report that was there stays.
    """
    report = load(root)
    if out is not None and out.resolve() != root.resolve():
        _check_free(out, "report.html")
    return _write(root, out or root, writer.render, report)


def compare(roots: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Write a comparison of the runs in `roots` into `out`; returns its files.

    Raises:
        UsageError: runs that cannot stand side by side (different tasks), one run twice, or an `out` that holds something else.
        HwnasError: as `load`.
    """
    places = [root.resolve() for root in roots]
    if twice := [str(root) for root, place in zip(roots, places, strict=True) if places.count(place) > 1]:
        raise UsageError(f"{' and '.join(twice)} are the same run; give each one once")
    runs = [Run(name, load(root)) for name, root in zip(names(places), roots, strict=True)]
    _check_free(out or COMPARISONS, "compare.html")
    return _write(roots[0], out or COMPARISONS, comparison.render, runs)


def names(places: Sequence[Path]) -> list[str]:
    """What to call the runs at `places`: the folder's name, with as many of those above it as it takes to tell them apart."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]


def index(root: Path) -> str:
    """Name of the page to open in `root`: a run's report, or a comparison.

    Raises:
        UsageError: there is no such folder, or no page in it.
    """
    _check_folder(root)
    found = next((name for name in ("report.html", "compare.html") if (root / name).is_file()), None)
    if found is None:
        _check_finished(root)
        raise UsageError(f"{root} holds no report.html; make it with `hwnas report {root}`")
    return found


def _check_finished(root: Path) -> None:
    """Raises where `root` is no run, or one that has not come to its end."""
    _check_folder(root)
    if not (root / RUN_YAML).exists() and not (root / FRONT).exists():
        inside = next((parent for parent in root.resolve().parents if (parent / RUN_YAML).exists()), None)
        raise UsageError(f"{root} is no run of hwnas: it holds no {RUN_YAML}" + (f"; the run is {inside}" if inside else ""))
    if not (root / RUN_YAML).exists():
        raise RunError(f"{root / RUN_YAML}: is missing; restore the file")
    if not (root / FRONT).exists():
        raise RunError(f"{root}: the run is unfinished, it has no {FRONT} yet; continue it with `hwnas search --resume --out {root}`")


def _check_folder(root: Path) -> None:
    if root.is_dir():
        return
    if root.exists():
        raise UsageError(f"{root} is a file; give the folder of a run")
    beside = [path.name for path in root.parent.iterdir() if path.is_dir()] if root.parent.is_dir() else []
    close = difflib.get_close_matches(root.name, beside, n=1)
    raise UsageError(f"{root}: no such folder." + (f" Did you mean '{root.with_name(close[0])}'?" if close else ""))


def _check_free(out: Path, page: str) -> None:
    """A folder of its own, so that nothing but an earlier report of this kind is overwritten."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / page).exists()) or (out / RUN_YAML).exists()):
        raise UsageError(f"{out} exists and holds something else; choose another folder with --out")


def _write(root: Path, out: Path, render: Any, content: Any) -> list[Path]:
    try:
        files = render(content)
    except HwnasError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Files that people can edit: a field of another type than a search writes surfaces where it is shown.
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{root}: a file of the run is damaged or of another version of hwnas ({reason}); see --debug") from error
    return writer.put(out, files)
