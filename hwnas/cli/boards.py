"""`hwnas bench`: flags to settings, figures to tables; and what `hwnas profile --target` passes on. `register` adds the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.cli.display import plain_table
from hwnas.errors import UsageError
from hwnas.pipeline.progress import Progress
from hwnas.resources import write_text

NONE = "–"  # noqa: RUF001  (an en dash, for a figure that does not exist)
DIFFERS = 1  # exit code where one output is wrong
USUAL = "greetings"  # of the line: a board that boots, or a terminal that is opened late, is greeted more than once
Port = Annotated[
    str | None,
    typer.Option("--port", help="What images are built for: stm32f405, linux-aarch64, host, or the folder of a port of your own."),
]
Flash = Annotated[
    str | None,
    typer.Option(
        "--flash",
        help="Puts an image on the board, no shell: 'pyocd flash -t stm32f405rg {image}' or 'st-flash write {binary} 0x8000000'.",
    ),
]
Baud = Annotated[int | None, typer.Option("--baud", min=1, help="Of the serial port; default 115200.")]
ProfileTarget = Annotated[
    str | None,
    typer.Option("--target", help="Time the operators on a board instead of the emulator: serial:/dev/ttyACM0."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(bench)


def bench(
    student: Annotated[Path, typer.Argument(help="Folder of a finished student (runs/NAME/students/ID).")],
    target: Annotated[str, typer.Option("--target", help="emulator, qemu, serial:/dev/ttyACM0 or exec:'qemu-aarch64 {image}'.")],
    data: Annotated[Path | None, typer.Option(help="Folder of recordings; without it, the signal generator.")] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows to compare with the int8 reference, bit for bit.")] = 500,
    runs: Annotated[int, typer.Option(min=10, help="Timed inferences, at least.")] = 10,
    floor_s: Annotated[float, typer.Option(min=0, help="Seconds of timed inferences, at least.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the signal generator.")] = 1_000_003,
    profile: Annotated[
        str | None, typer.Option(help="Hardware profile to predict for; default: the port's with --flash, else the student's.")
    ] = None,
    port: Port = None,
    flash: Flash = None,
    baud: Baud = None,
    timeout_s: Annotated[float | None, typer.Option(min=0.1, help="Seconds to wait for one answer of the board.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write; default: RUN/boards/ID/TARGET.json for RUN/students/ID, else none.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a finished student on a board, in QEMU or in the emulator: outputs against the reference, figures beside the predicted ones."""
    from hwnas.firmware.transports import BAUD
    from hwnas.pipeline.bench import BenchSettings, bench_student, default_place, parse_target

    where = parse_target(target)
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out} is a folder; name the JSON file to write")
    settings = BenchSettings(windows, runs, floor_s, seed, data, port, flash, baud or BAUD, timeout_s, None, profile)
    place = out or default_place(student, where)
    with shown(quiet or as_json) as progress:
        result = bench_student(student, where, settings, progress)
    if place is not None:
        write_text(place, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if as_json:
        emit(result)
    elif not quiet:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(bench_tables(result))
        if place is not None:
            console.print(f"written to {place}", highlight=False, soft_wrap=True)
    if result["windows_differing"]:
        raise typer.Exit(DIFFERS)


def profile_board(
    profile_name: str,
    space_names: Sequence[str],
    student: Path | None,
    out: Path | None,
    target: str,
    port: str | None,
    flash: str | None,
    baud: int | None,
    progress: Progress,
    *,
    jobs: int,
) -> tuple[Path, int]:
    """`hwnas profile --target`; returns (file, number of rows)."""
    from hwnas.firmware.transports import BAUD
    from hwnas.pipeline.board_profiling import fill_from_board
    from hwnas.pipeline.targets import Connection, parse_target

    if out is None:
        raise UsageError("--target needs --out: shipped tables stay emulated, so name the CSV file to write")
    connection = Connection(parse_target(target), port, flash, baud or BAUD)
    return fill_from_board(profile_name, space_names, student, out, connection, progress, jobs=jobs)


def refuse_without_target(flags: Mapping[str, object]) -> None:
    """Refuse flags of `hwnas profile` that mean something on a board only."""
    if given := [name for name, value in flags.items() if value is not None]:
        raise UsageError(f"{', '.join(given)}: on a board only; name it with --target, such as --target serial:/dev/ttyACM0")


def bench_tables(result: Mapping[str, Any]) -> Group:
    """Facts with their provenance, predicted figures beside the others, then operator by operator."""
    tables = [_facts(result), _times(result), _memory(result), _operators(result)]
    lines = [f"warning: {warning}" for warning in result["warnings"]]
    return Group(*(part for table in tables for part in (table, "")), *lines)


def _facts(result: Mapping[str, Any]) -> Table:
    table = plain_table(result["student"], result["summary"])
    board, differing, first = result["board"], result["windows_differing"], result["first_difference"]
    seen = result["subjects"]["seen_in_training"]
    rows = [("target", result["target"] + (f", built for {result['port']}" if result["port"] else "")), ("figures", result["provenance"])]
    if board:
        clock = f"{board['clock_hz'] / 1e6:g} MHz" if board["clock_hz"] else "clock not known"
        rows.append(("board", f"{board['board']}, {clock}"))
    rows.append(("predicted", f"{result['profile']}; {result['predicted']['provenance'].removeprefix('predicted: ')}"))
    rows.append(("windows", f"{result['windows']:,} {result['windows_source']}, of {result['data']}"))
    rows.append(("outputs", f"{differing} of {result['windows']:,} windows differ from the int8 reference"))
    if first:
        rows.append(("first", f"window {first['window']}, output {first['output']}: expected {first['expected']}, got {first['got']}"))
    if result["metrics"]:
        said = f"; {seen} of {result['subjects']['count']} subjects were trained or chosen on" if seen else ""
        rows.append(("metrics", ", ".join(f"{name} {value:.3f}" for name, value in result["metrics"].items()) + said))
    if link := result["link"]:
        mended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in link.items() if count and name != USUAL)
        rows.append(("line", mended or "no frame was lost or damaged"))
    energy, cycles = result["energy"], result["cycles"]
    if energy["energy_uj"] is not None:
        whence = f" from {cycles['kind']} cycles" if cycles and cycles["kind"] != energy["kind"] else ""
        rows.append(
            ("energy", f"predicted {result['predicted']['energy_uj']:.1f} uJ; {energy['kind']}{whence} {energy['energy_uj']:.1f} uJ")
        )
    if result["fault"]:
        rows.append(("fault", result["fault"]))
    rows.append(("built with", result["toolchain"]))
    for row in rows:
        table.add_row(*row)
    return table


def _times(result: Mapping[str, Any]) -> Table:
    latency, predicted, cycles = result["latency"], result["predicted"], result["cycles"]
    table = _right(plain_table("inference", "predicted", latency["kind"]))
    if cycles:
        table.add_row("cycles", f"{predicted['cycles']:,}", f"{cycles['median']:,.0f}")
    table.add_row("median", _us(predicted["latency_us"]), _us(latency["median_us"]))
    table.add_row("interquartile range", NONE, _us(latency["spread_us"]))
    table.add_row("least", NONE, _us(latency["min_us"]))
    table.add_row("most", NONE, _us(latency["max_us"]))
    table.add_row("runs", NONE, f"{latency['runs']:,}")
    return table


def _memory(result: Mapping[str, Any]) -> Table:
    memory, predicted = result["memory"], result["predicted"]
    table = _right(plain_table("memory", "predicted", "of the program"))
    table.add_row("RAM", _bytes(predicted["ram_bytes"]), _bytes(memory["ram_bytes"]))
    flash = "flash, with the link" if memory["flash_includes_link"] else "flash"
    table.add_row(flash, _bytes(predicted["flash_bytes"]), _bytes(memory["flash_bytes"]))
    table.add_row("arena", NONE, _bytes(memory["arena_bytes"]))
    table.add_row("stack", NONE, _bytes(memory["stack_bytes"]))
    return table


def _operators(result: Mapping[str, Any]) -> Table:
    kind, cycles = result["latency"]["kind"], result["cycles"] is not None
    others = (f"{kind} cycles", "ratio") if cycles else (f"us, {kind}",)
    table = _right(plain_table("", "operator", "weights", "samples", "predicted cycles", *others), 3)
    for row in result["operators"]:
        found = (f"{row['cycles']:,}", f"{row['cycles'] / row['predicted_cycles']:.3f}") if cycles else (f"{row['us']:,.1f}",)
        table.add_row(str(row["index"]), _name(row), row["weights"], str(row["in_length"]), f"{row['predicted_cycles']:,}", *found)
    return table


def _right(table: Table, first: int = 1) -> Table:
    """The table with its columns from `first` on, which are numbers, flush right."""
    for column in table.columns[first:]:
        column.justify = "right"
    return table


def _name(row: Mapping[str, Any]) -> str:
    """The table's key without the layout of weights, which has a column of its own."""
    name = row["key"].removesuffix(f" {row['weights']}")
    return f"{row['calls']} x {name}" if row["calls"] > 1 else str(name)


def _us(value: float) -> str:
    return f"{value / 1e3:,.3f} ms" if value >= 1e3 else f"{value:,.2f} us"


def _bytes(value: int | None) -> str:
    return NONE if value is None else f"{value:,} B"
