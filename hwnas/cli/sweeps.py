"""`hwnas sweep`: flags to settings, figures to tables. `register` adds it to the program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.cli.studies import Data, Effort, Epochs, Resume, SplitSeed, Subjects, TaskName, WindowCount, WindowS, settings, warn


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(sweep)


def sweep(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    task: TaskName = None,
    data: Data = None,
    teachers: Annotated[
        list[str] | None,
        typer.Option("--teacher", help="Give several; default: resnet18_1d_8, resnet18_1d_16, resnet18_1d (25 k, 97 k, 217 k parameters)."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space of the students, a name or a YAML file; default mobilenet1d.")] = None,
    smallest: Annotated[int | None, typer.Option(min=1, help="Parameters of the smallest student; default 500.")] = None,
    largest: Annotated[int | None, typer.Option(min=2, help="Parameters of the largest student; default 50,000.")] = None,
    sizes: Annotated[int | None, typer.Option(min=2, help="Sizes of students, evenly spaced in log parameters; default 6.")] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Distillation such as soft or dkd:beta=8; give several. Default: soft, dkd; hard is always there."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each student, with seeds 0, 1 ...; default 3.")] = None,
    target: Annotated[float | None, typer.Option(help="Test error to recommend a student for; default: the best without teacher.")] = None,
    profile: Annotated[str | None, typer.Option(help="Hardware that costs are predicted for; default cortex-m4-192k.")] = None,
    epochs: Epochs = None,
    window_s: WindowS = None,
    subjects: Subjects = None,
    windows: WindowCount = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of teachers, generator and intervals; default 0.")] = None,
    split_seed: SplitSeed = None,
    effort: Effort = None,
    resume: Resume = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: the cores. Changes no result.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train teachers and students of several sizes, fit laws of error against size, and recommend a student for a target error."""
    from hwnas.study.sweep import SweepConfig
    from hwnas.study.sweep import sweep as run
    from hwnas.study.sweep_render import recommendation, tables

    flags = {
        "task": task,
        "data": str(data.resolve()) if data else None,
        "teachers": teachers or None,
        "space": str(Path(space).resolve()) if space and space.endswith((".yaml", ".yml")) else space,
        "smallest": smallest,
        "largest": largest,
        "sizes": sizes,
        "recipes": recipes or None,
        "seeds": seeds,
        "target": target,
        "profile": profile,
        "epochs": epochs,
        "window_s": window_s,
        "subjects": subjects,
        "windows": windows,
        "seed": seed,
        "split_seed": split_seed,
        "effort": effort,
    }
    config = settings(SweepConfig, flags, out, resume=resume)
    with shown(quiet) as progress:
        content = run(config, out, jobs=jobs or os.cpu_count() or 1, resume=resume, progress=progress)
    if as_json:
        emit(content)
    elif not quiet:
        console = Console(width=None if sys.stdout.isatty() else 180)
        console.print(*tables(content), sep="\n")
        warn(console, content)
        for line in recommendation(content):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"{out / 'sweep.md'}, {out / 'sweep.png'}, {out / 'sweep.json'}", highlight=False, soft_wrap=True)
