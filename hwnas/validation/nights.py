"""`run_night`: every student on every target, each row kept as soon as it is finished. Writes history and reports.

One target that cannot be run, or one student that fails, does not keep the others from being run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwnas.errors import DataError, HwnasError, RunError
from hwnas.pipeline.progress import Progress
from hwnas.resources import write_text
from hwnas.tasks import Windows
from hwnas.validation.config import NightConfig, TargetConfig
from hwnas.validation.history import History, Row, now
from hwnas.validation.meter import Metering, metering
from hwnas.validation.page import page
from hwnas.validation.quarantine import quarantined, to_csv
from hwnas.validation.reading import Reading, reading
from hwnas.validation.render import Report, junit, markdown
from hwnas.validation.verdict import judge, not_reached, refused, unmetered
from hwnas.validation.windows import Pool

SHOWN_NIGHTS = 90
JUNIT, MARKDOWN, PAGE = "junit.xml", "summary.md", "nights.html"


class Refused(HwnasError):
    """A board that answers, and is not the one that was asked for."""


# Runs the student in a folder on a target with these windows; what `hwnas.pipeline.bench.bench_student` returns. Raises `Refused`, or
# another HwnasError where the target cannot be run.
Bench = Callable[[Path, TargetConfig, Windows, Progress], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """A finished night, and the reports written of it."""

    report: Report
    files: tuple[Path, ...]


def run_night(config: NightConfig, bench: Bench, progress: Progress, *, fault: str = "") -> Outcome:
    """Run a night, keep its rows, and write the reports.

    Args:
        fault: what `bench` breaks on purpose; its rows are marked and never compared with.

    Raises:
        ConfigError: a student that is not there; no night is claimed then.
        RunError: the history or a report cannot be written.
    """
    folders, pool = config.folders(), Pool(config.windows)
    pairs = [(name, folder, target) for target in config.targets for name, folder in folders.items()]
    with History(Path(config.history)) as history:
        night = history.claim(len(pairs), fault)
        _withdraw(Path(config.out))
        progress.say(f"night {night}: {len(folders)} students on {len(config.targets)} targets{f', fault: {fault}' if fault else ''}")
        for name, folder, target in pairs:
            progress.stage(f"{name} on {target.name}")
            row = _run(night, name, folder, target, config, history, pool, bench, progress)
            history.add(row)
            progress.say(f"{name} on {target.name}: {row.verdict.kind}{f': {row.verdict.reason}' if row.verdict.reason else ''}")
        history.finish(night)
        return publish(config, history, night)


def _withdraw(out: Path) -> None:
    """Remove the reports of the night before: where this one dies, nobody may read them as its own.

    Raises:
        RunError: one cannot be removed.
    """
    for name in (JUNIT, MARKDOWN, PAGE):
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{out / name}: the last night's report cannot be removed ({error.strerror}); see to its folder") from error


def publish(config: NightConfig, history: History, night: int) -> Outcome:
    """Write the reports of a night, each atomically."""
    nights, rows = history.nights(), history.rows(last=SHOWN_NIGHTS)
    this = next(each for each in nights if each.night == night)
    found = quarantined(history.every_row(), config.limits.predicted_percent, night)
    report = Report(this, tuple(history.rows(night)), tuple(found), tuple(nights[-SHOWN_NIGHTS:]), tuple(rows), config.limits)
    out = Path(config.out)
    contents = {
        out / JUNIT: junit(report),
        out / MARKDOWN: markdown(report),
        out / PAGE: page(report),
        config.quarantine_path: to_csv(found),
    }
    for path, content in contents.items():
        write_text(path, content)
    return Outcome(report, tuple(contents))


def _run(
    night: int,
    name: str,
    folder: Path,
    target: TargetConfig,
    config: NightConfig,
    history: History,
    pool: Pool,
    bench: Bench,
    progress: Progress,
) -> Row:
    """The row of one student on one target, whatever happens on the way there.

    Raises:
        RunError: the history cannot be read.
    """
    record: dict[str, Any] | None = None
    found: Reading | None = None
    notes: tuple[str, ...] = ()
    unmeasured = ""
    try:
        given = pool.take(folder, night)
        with metering(target.meter) as meter:
            made = bench(folder, target, given.windows, progress)
        made, unmeasured = _metered(json.loads(json.dumps(made | {"night": given.facts}, allow_nan=False)), meter)
        record, found, notes = made, reading(made, target.name), tuple(made.get("warnings") or ())
    except Refused as error:
        verdict = refused(str(error))
    except HwnasError as error:
        verdict = not_reached(str(error))
    except Exception as error:  # the other students and targets are still to be run
        verdict = not_reached(f"this is a fault of hwnas: {type(error).__name__}: {error}; report it")
    if found is not None:
        verdict = judge(found, config.limits, history.past(found.key, night), night)
        verdict = unmetered(verdict, unmeasured) if unmeasured else verdict
    return Row(night, name, target.name, replace(verdict, notes=(*verdict.notes, *notes)), record, now())


def _metered(record: dict[str, Any], meter: Metering | None) -> tuple[dict[str, Any], str]:
    """The record with the energy that the target's meter measured, if it has one, and why it did not."""
    if meter is None:
        return record, ""
    try:
        energy = meter.measured_uj()
    except DataError as error:
        return record, str(error)
    return record | {"energy": {"kind": "measured", "energy_uj": energy}}, ""
