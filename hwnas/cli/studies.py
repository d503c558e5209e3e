"""`hwnas distill` and `hwnas compare`: flags to settings, figures to tables. `register` adds both to the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.cli.display import plain_table

if TYPE_CHECKING:
    from hwnas.pipeline.config import LearningConfig

Config = TypeVar("Config", bound="LearningConfig")
TaskName = Annotated[str | None, typer.Option("--task", help="What to learn: rhythm (default), heart_rate, sleep ...; see `hwnas tasks`.")]
Data = Annotated[Path | None, typer.Option(help="Folder of recordings; without it, the signal generator.")]
StudentFile = Annotated[
    Path | None, typer.Option("--student", help="YAML file {space, choices}, a graph.json, or the folder of an exported student.")
]
SpaceName = Annotated[str | None, typer.Option("--space", help="With --parameters: the space of the student; default mobilenet1d.")]
Parameters = Annotated[int | None, typer.Option(min=1, help="Instead of --student: the space's student of at most that many parameters.")]
TeacherName = Annotated[
    str | None, typer.Option("--teacher", help="resnet18_1d (default) or another, or several as one: ensemble:A+B; see `hwnas teacher`.")
]
CrossFit = Annotated[
    int | None, typer.Option(min=0, help="Groups of training subjects whose targets come from a teacher that did not see them; default 0.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs of each training of a student; default: the recipe's.")]
WindowS = Annotated[float | None, typer.Option(help="Window length in seconds.")]
Subjects = Annotated[int | None, typer.Option(min=1, help="Subjects to generate.")]
WindowCount = Annotated[int | None, typer.Option("--windows", min=1, help="Windows to generate.")]
Effort = Annotated[str | None, typer.Option(help="quick (a look in seconds, no results) or normal (default).")]
SplitSeed = Annotated[int | None, typer.Option(min=0, help="Seed of the split by subject; default 0.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the study in --out, with its own settings where none are given.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(compare)
    app.command()(distill)


def compare(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    task: TaskName = None,
    data: Data = None,
    student: StudentFile = None,
    space: SpaceName = None,
    parameters: Parameters = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Distillation to compare with none, such as soft or dkd:beta=8; give several. Default: soft."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Parts of the subjects, each tested once; default 4.")] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", help="Instead of folds: subject to test on, or a pattern ('test-*'); give several."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each student, with seeds 0, 1 ...; default 5.")] = None,
    teacher: TeacherName = None,
    teachers: Annotated[
        Path | None, typer.Option(help="Folder with a teacher for every fold (fold-1 ...), instead of training them.")
    ] = None,
    cross_fit: CrossFit = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also compare the students as they ship, quantised.")] = False,
    epochs: Epochs = None,
    window_s: WindowS = None,
    subjects: Subjects = None,
    windows: WindowCount = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of teachers, generator and bootstrap; default 0.")] = None,
    split_seed: SplitSeed = None,
    effort: Effort = None,
    resume: Resume = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: the cores. Changes no result.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say whether distillations help a student: folds of subjects, several seeds, a control without teacher, paired statistics."""
    from hwnas.study.compare import compare as run
    from hwnas.study.folds import StudyConfig
    from hwnas.study.render import tables

    flags = {
        **_learning(task, data, student, space, parameters, teacher, cross_fit, epochs, window_s, subjects, windows),
        "recipes": recipes or None,
        "folds": folds,
        "held_out": held_out or None,
        "seeds": seeds,
        "teachers": str(teachers.resolve()) if teachers else None,
        "int8": int8 or None,
        "seed": seed,
        "split_seed": split_seed,
        "effort": effort,
    }
    config = settings(StudyConfig, flags, out, resume=resume)
    with shown(quiet) as progress:
        content = run(config, out, jobs=jobs or os.cpu_count() or 1, resume=resume, progress=progress)
    if as_json:
        emit(content)
    elif not quiet:
        console = Console(width=None if sys.stdout.isatty() else 180)
        console.print(*tables(content), sep="\n")
        warn(console, content)
        console.print(f"{out / 'compare.md'}, {out / 'compare.json'}", highlight=False, soft_wrap=True)


def distill(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    task: TaskName = None,
    data: Data = None,
    student: StudentFile = None,
    space: SpaceName = None,
    parameters: Parameters = None,
    recipe: Annotated[str | None, typer.Option(help="Distillation: soft (default), none, dkd, relational, soft+hint:weight=2 ...")] = None,
    held_out: Annotated[list[str] | None, typer.Option("--held-out", help="Subject to test on; give several. Default: a fifth.")] = None,
    teacher: TeacherName = None,
    cross_fit: CrossFit = None,
    epochs: Epochs = None,
    window_s: WindowS = None,
    subjects: Subjects = None,
    windows: WindowCount = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything but the split; default 0.")] = None,
    split_seed: SplitSeed = None,
    effort: Effort = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Distil one student, score it, and say segment by segment how far it is from its teacher."""
    from hwnas.study.distil import DistilConfig, distil

    flags = {
        **_learning(task, data, student, space, parameters, teacher, cross_fit, epochs, window_s, subjects, windows),
        "distillation": recipe,
        "held_out": held_out or None,
        "seed": seed,
        "split_seed": split_seed,
        "effort": effort,
    }
    config = settings(DistilConfig, flags, out, resume=resume)
    with shown(quiet) as progress:
        content = distil(config, out, resume=resume, progress=progress)
    if as_json:
        emit(content)
    elif not quiet:
        _show(content, out)


def _learning(
    task: str | None,
    data: Path | None,
    student: Path | None,
    space: str | None,
    parameters: int | None,
    teacher: str | None,
    cross_fit: int | None,
    epochs: int | None,
    window_s: float | None,
    subjects: int | None,
    windows: int | None,
) -> dict[str, Any]:
    """The settings that both commands have in common, paths absolute."""
    return {
        "task": task,
        "data": str(data.resolve()) if data else None,
        "student": str(student.resolve()) if student else None,
        "space": space,
        "parameters": parameters,
        "teacher": teacher,
        "cross_fit": cross_fit,
        "epochs": epochs,
        "window_s": window_s,
        "subjects": subjects,
        "windows": windows,
    }


def settings(model: type[Config], flags: Mapping[str, Any], out: Path, *, resume: bool) -> Config:
    """The flags that were given, over the settings of the study in `out` where it is continued."""
    from hwnas.config import parse
    from hwnas.study.folder import settings_of

    before = settings_of(out) if resume else {}
    return parse(before | {name: value for name, value in flags.items() if value is not None}, model, "command line")


def _show(content: Mapping[str, Any], out: Path) -> None:
    """Metrics of teacher and student, and what the gap finds."""
    table = plain_table(f"{content['task']}, {content['provenance']}", "teacher, test", "student, validation", "student, test")
    found = content["metrics"]
    for name, value in found["student"]["validation"].items():
        others = (found["teacher"]["test"].get(name), value, found["student"]["test"].get(name))
        table.add_row(name, *("–" if other is None else f"{other:.4f}" for other in others))  # noqa: RUF001
    gap = content["gap"]
    flags = plain_table("flag of segments that the student gets wrong", "AUC", "95 % over subjects")
    for name, title in (("auc_gap", gap["meanings"]["gap"]), ("auc_own", gap["meanings"]["own"])):
        figure = gap[name]
        within = "–" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"  # noqa: RUF001
        flags.add_row(title, "–" if figure["value"] is None else f"{figure['value']:.3f}", within)  # noqa: RUF001
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table, flags, sep="\n\n")
    console.print(f"{gap['wrong']} of {gap['windows']} test segments are wrong; {out / 'gap.csv'} has all of them", soft_wrap=True)
    warn(console, content)


def warn(console: Console, content: Mapping[str, Any]) -> None:
    """What to keep in mind of a study's figures, a line each."""
    for warning in content["warnings"]:
        console.print(f"mind: {warning}", highlight=False, soft_wrap=True)
