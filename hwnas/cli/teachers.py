"""`hwnas teacher`: list, train, import, show and calibrate teachers. Flags to settings, figures to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.cli.display import plain_table

if TYPE_CHECKING:
    from hwnas.pipeline.config import LearningConfig

TaskName = Annotated[str | None, typer.Option("--task", help="What to learn: rhythm (default), heart_rate, sleep ...; see `hwnas tasks`.")]
Data = Annotated[Path | None, typer.Option(help="Folder of recordings; without it, the signal generator.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Folds = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="A teacher for each of so many parts of the subjects, which it never sees: OUT/fold-1 ...; as many as subjects: one out.",
    ),
]
WindowS = Annotated[float | None, typer.Option(help="Window length in seconds.")]
Subjects = Annotated[int | None, typer.Option(min=1, help="Subjects to generate.")]
WindowCount = Annotated[int | None, typer.Option("--windows", min=1, help="Windows to generate.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything but the split; default 0.")]
SplitSeed = Annotated[int | None, typer.Option(min=0, help="Seed of the split by subject; default 0.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a finished teacher.")]

commands = typer.Typer(no_args_is_help=True, help="Train, import, look at and calibrate teachers.")


@commands.command("list")
def list_teachers(as_json: Json = False, debug: Debug = False) -> None:
    """List the teachers."""
    from hwnas.teachers import ENSEMBLE, FROM, TEACHERS

    if as_json:
        emit({name: {"about": t.about, "parameters": t.parameters, "channels": t.channels} for name, t in TEACHERS.items()})
        return
    table = plain_table("teacher", "parameters", "channels", "what it is")
    for name, spec in TEACHERS.items():
        table.add_row(name, f"{spec.parameters:,}", f"{spec.channels} or more", spec.about)
    console = Console()
    console.print(table)
    console.print(f"\nseveral as one: {ENSEMBLE}A+B; a finished one, also one made elsewhere: {FROM}FOLDER", highlight=False)


@commands.command()
def train(
    out: Out,
    task: TaskName = None,
    data: Data = None,
    teacher: Annotated[str | None, typer.Option(help="Name, or ensemble:A+B; see `hwnas teacher list`. Default resnet18_1d.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the training on --data; default: the recipe's.")] = None,
    folds: Folds = None,
    cross_fit: Annotated[
        int | None,
        typer.Option(min=0, help="Groups of training subjects whose targets come from a teacher that did not see them; default 0: none."),
    ] = None,
    window_s: WindowS = None,
    subjects: Subjects = None,
    windows: WindowCount = None,
    seed: Seed = None,
    split_seed: SplitSeed = None,
    effort: Annotated[str | None, typer.Option(help="quick (a look in seconds, no results) or normal (default).")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda. A GPU rounds differently.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train teachers and say how well each knows what it knows; the same command goes on where an interrupted one ended."""
    from hwnas.pipeline.teacher_folds import train_teachers
    from hwnas.teachers import members

    how: dict[str, str | int | None] = {"teacher": teacher, "teacher_epochs": epochs, "cross_fit": cross_fit, "effort": effort}
    config = _learning(task, data, window_s, subjects, windows, seed, split_seed, **how)
    members(config.teacher)
    with shown(quiet) as progress:
        content = train_teachers(config, folds, out, device=device, progress=progress)
    _tell_figures(content, out, as_json=as_json, quiet=quiet)


@commands.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="TorchScript archive (.pt) or ONNX file (.onnx): windows (B, C, T) in, logits (B, K) out, one for each label."),
    ],
    out: Out,
    task: TaskName = None,
    data: Data = None,
    folds: Folds = None,
    trained_on: Annotated[
        list[str] | None, typer.Option("--trained-on", help="Subject of these recordings that it was trained on; give several.")
    ] = None,
    window_s: WindowS = None,
    subjects: Subjects = None,
    windows: WindowCount = None,
    seed: Seed = None,
    split_seed: SplitSeed = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check a teacher that was made elsewhere and calibrate it on validation subjects; then use it with --teacher from:OUT.

    A TorchScript archive is a program that runs on this computer: import none from people you do not trust. Pickled modules are refused.
    """
    from hwnas.pipeline.teacher_folds import import_teachers

    config = _learning(task, data, window_s, subjects, windows, seed, split_seed)
    with shown(quiet) as progress:
        content = import_teachers(config, file, trained_on or (), folds, out, progress=progress)
    _tell_figures(content, out, as_json=as_json, quiet=quiet)


@commands.command()
def show(folder: Folder, as_json: Json = False, debug: Debug = False) -> None:
    """Show the card of a finished teacher, or of every fold's."""
    from hwnas.pipeline.teacher_folds import show as read

    _tell_cards(read(folder), as_json=as_json, quiet=False)


@commands.command()
def calibrate(
    folder: Folder,
    data: Data = None,
    subjects: Annotated[
        list[str] | None, typer.Option("--subject", help="Calibrate on this subject; give several. Default: all it was not trained on.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the signal generator.")] = 1_000_003,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Calibrate a finished teacher again, on subjects that it was not trained on."""
    from hwnas.pipeline.teacher_folds import recalibrate

    with shown(quiet or as_json) as progress:
        progress.stage("calibrating")
        content = recalibrate(folder, data, subjects or (), seed=seed)
    _tell_cards(content, as_json=as_json, quiet=quiet)


def _learning(
    task: str | None,
    data: Path | None,
    window_s: float | None,
    subjects: int | None,
    windows: int | None,
    seed: int | None,
    split_seed: int | None,
    **others: str | int | None,
) -> LearningConfig:
    """The settings of the flags that were given."""
    from hwnas.config import parse
    from hwnas.pipeline.config import LearningConfig

    flags = {
        "task": task,
        "data": str(data.resolve()) if data else None,
        "window_s": window_s,
        "subjects": subjects,
        "windows": windows,
        "seed": seed,
        "split_seed": split_seed,
        **others,
    }
    return parse({name: value for name, value in flags.items() if value is not None}, LearningConfig, "command line")


def _tell_figures(content: Mapping[str, Any], out: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        emit(content)
    elif not quiet:
        console = Console()
        console.print(_figures(content))
        for doubt in _doubts([one["teacher"] for one in content["teachers"]]):
            console.print(doubt, highlight=False)
        console.print(f"\n{out / 'teachers.json'}", highlight=False, soft_wrap=True)


def _tell_cards(content: Mapping[str, Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        emit(content)
    elif not quiet:
        console = Console()
        for card in content["teachers"]:
            console.print(_card(card))
            console.print()


def _figures(content: Mapping[str, Any]) -> Table:
    """One row a fold, one for their mean, one for all test subjects together."""
    primary = content["primary"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "T", "NLL", "ECE", "ECE test", f"{primary}\nvalidation", f"{primary}\ntest"):
        table.add_column(name, no_wrap=True)
    for one in content["teachers"]:
        name = "teacher" if one["fold"] is None else f"fold {one['fold']}"
        found = {part: one[part] | {primary: (one[part]["metrics"] or {}).get(primary)} for part in ("validation", "test")}
        table.add_row(name, *_cells(found, primary))
    if len(content["teachers"]) > 1:
        table.add_row("mean", *_cells(content["mean"], primary))
        together = content["pooled_test"]["metrics"] or {}
        table.add_row("all subjects", "", "", "", "", "", _number(together.get(primary), 4))
    return table


def _cells(parts: Mapping[str, Mapping[str, Any]], primary: str) -> list[str]:
    validation, test = parts["validation"], parts["test"]
    return [
        _number(validation["temperature"], 2),
        f"{_number(validation['nll_before'], 2)} → {_number(validation['nll_after'], 2)}",
        f"{_number(validation['ece_before'], 3)} → {_number(validation['ece_after'], 3)}",
        _number(test["ece_after"], 3),
        _number(validation[primary], 4),
        _number(test[primary], 4),
    ]


def _card(card: Mapping[str, Any]) -> Table:
    calibration = card["calibration"]
    table = plain_table(card["name"], "" if card["fold"] is None else f"fold {card['fold']}")
    table.add_row("identity", card["id"])
    table.add_row("origin", card["origin"])
    table.add_row("task", f"{card['task']}, {len(card['labels'])} labels")
    table.add_row("reads", f"{card['in_channels']} channel(s), {card['window_s']:g} s at {card['rate_hz']:g} Hz")
    table.add_row("parameters", f"{card['parameters']:,}")
    table.add_row("data", f"{card['data_name']} ({card['source']}), {card['data']}")
    table.add_row("trained on", _few(card["subjects_trained"]))
    table.add_row("validated on", _few(card["subjects_validated"]))
    if card["targets_from"]:
        table.add_row("targets from", ", ".join(card["targets_from"]))
    table.add_row("temperature", f"{calibration['temperature']:.3g}, students at {calibration['distillation_temperature']:.3g}")
    table.add_row("NLL", f"{calibration['nll_before']:.3f} → {calibration['nll_after']:.3f}")
    table.add_row("ECE", f"{calibration['ece_before']:.3f} → {calibration['ece_after']:.3f}")
    table.add_row("soft labels", calibration["entropy_validation"]["verdict"])
    table.add_row("", calibration["entropy_targets"]["verdict"])
    for part, metrics in card["metrics"].items():
        table.add_row(part, ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    for doubt in calibration["doubts"]:
        table.add_row("doubt", doubt)
    return table


def _doubts(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known of the teachers before they teach."""
    found = []
    for card in cards:
        calibration, where = card["calibration"], "" if card["fold"] is None else f"fold {card['fold']}: "
        found += [where + doubt for doubt in calibration["doubts"]]
        checks = (calibration["entropy_validation"], calibration["entropy_targets"])
        found += [f"{where}soft labels {check['verdict']}" for check in checks if not check["passed"]]
    return found


def _few(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "not known"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
