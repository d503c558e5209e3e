"""`hwnas validate`: its flags, what it prints, its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.cli.display import plain_table
from hwnas.errors import UsageError

STYLES = {"pass": "green", "drift": "yellow", "fail": "red", "not reached": "red"}
EPILOG = (
    "Exit code: 0 if every student passed on every target, 1 if not, 2 for a wrong configuration. To prove that the gate catches what it "
    "should, break something on purpose: --fault delay:KERNEL:LOOPS slows one kernel down, --fault flip-weight changes one byte of a "
    "packed weight in the program; such nights are marked and are never compared with."
)


def register(app: typer.Typer) -> None:
    """Add `hwnas validate` to `app`."""
    app.command("validate", epilog=EPILOG)(validate)


def validate(
    config: Annotated[Path, typer.Option(help="YAML file: students, targets, windows, limits, history; see hwnas/validation/config.py.")],
    schedule: Annotated[str | None, typer.Option(help="Print files that run it every night: systemd, cron or github; run nothing.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Print the nights so far and what became of them; run nothing.")] = False,
    fault: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run finished students on their targets and compare them with the int8 reference, the predictions and earlier nights."""
    from hwnas.validation.config import read
    from hwnas.validation.nights import run_night

    settings = read(config)
    if schedule is not None and (history or fault):
        raise UsageError("--schedule prints files and runs nothing; leave --history and --fault out")
    if history and fault:
        raise UsageError("--history runs nothing; leave --fault out")
    if schedule is not None:
        from hwnas.validation.schedule import schedule as made

        print(made(schedule, config, settings), end="")
        return
    if history:
        _print_history(Path(settings.history), as_json=as_json)
        return
    from hwnas.validation.boards import bench_on, parse_fault
    from hwnas.validation.render import as_json as night_as_json

    bench = bench_on(settings, parse_fault(fault) if fault else None)
    with shown(quiet or as_json) as progress:
        outcome = run_night(settings, bench, progress, fault=fault or "")
    report = outcome.report
    if as_json:
        emit(night_as_json(report) | {"files": [str(path) for path in outcome.files]})
    elif not quiet:
        from hwnas.validation.render import quarantine_line, said

        console = Console(width=None if sys.stdout.isatty() else 200)
        table = plain_table("student", "target", "verdict", "reason and notes")
        for row in report.tonight:
            table.add_row(Text(row.student), Text(row.target), Text(row.verdict.kind, STYLES[row.verdict.kind]), Text(said(row)))
        console.print(table)
        for each in report.quarantine:
            console.print(Text(quarantine_line(each)), soft_wrap=True)
        console.print(Text(f"night {report.night.night}: {report.counts}; {outcome.files[2]}"), soft_wrap=True)
    if not report.passed:
        raise typer.Exit(1)


def _print_history(path: Path, *, as_json: bool) -> None:
    """The nights and their rows."""
    from dataclasses import asdict

    from hwnas.validation.history import History
    from hwnas.validation.render import nights_table

    if not path.is_file():
        raise UsageError(f"no history at {path}: no night was run yet; run `hwnas validate` without --history")
    with History(path) as kept:
        nights, rows = kept.nights(), kept.rows()
    if as_json:
        verdicts = [
            {"night": row.night, "student": row.student, "target": row.target, "verdict": row.verdict.kind, "reason": row.verdict.reason}
            for row in rows
        ]
        emit({"nights": [asdict(night) for night in nights], "rows": verdicts})
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    content = nights_table(nights, rows)
    table: Table = plain_table(*content.header)
    for line in content.rows:
        table.add_row(*map(Text, line))
    console.print(table)
    table = plain_table("night", "student", "target", "verdict", "reason")
    for row in reversed(rows):
        table.add_row(*map(Text, (str(row.night), row.student, row.target, row.verdict.kind, row.verdict.reason)))
    console.print(table)
