"""The commands of `hwnas` and their flags."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer._click.exceptions import ClickException  # typer carries its own click; its version is pinned

from hwnas import __version__, space
from hwnas.cli import boards, reports, studies, sweeps, teachers, validation
from hwnas.cli.common import Debug, Json, Quiet, emit, shown
from hwnas.errors import HwnasError, UsageError
from hwnas.hardware import profile as profiles

INTERRUPTED = 130
# What an interrupted command's user may do next.
CONTINUES = {
    "search": "; finished work is kept, continue with --resume",
    "profile": "; finished rows are kept, the same command goes on from them",
    "compare": "; finished trainings are kept, continue with --resume",
    "sweep": "; finished trainings are kept, continue with --resume",
    "distill": "; a finished teacher is kept, continue with --resume",
    "validate": "; finished rows are kept, the night stays marked as interrupted",
    "train": "; finished teachers and epochs are kept, the same command goes on from them",
}
SPACE_PROFILE, SPACE_TASK = "cortex-m4-192k", "rhythm"  # what `hwnas spaces NAME` describes a space for
app = typer.Typer(
    name="hwnas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hardware-aware architecture search and distillation of heart-signal models for wearables.",
)
data_commands = typer.Typer(no_args_is_help=True, help="Look at folders of recordings.")
app.add_typer(data_commands, name="data")
studies.register(app)
app.add_typer(teachers.commands, name="teacher")
sweeps.register(app)
boards.register(app)
validation.register(app)
reports.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    argv = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(argv))


def run(argv: list[str]) -> int:
    """Run the command line `argv`; returns the exit code."""
    try:
        code = typer.main.get_command(app).main(argv, prog_name="hwnas", standalone_mode=False)
        return _interrupted(argv) if code == INTERRUPTED else code if isinstance(code, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(argv)
    except ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except HwnasError as error:
        if "--debug" in argv:
            raise
        _complain(str(error))
        return error.exit_code
    except Exception as error:
        if "--debug" in argv:
            raise
        _complain(f"this is a fault of hwnas: {type(error).__name__}: {error}; run again with --debug and report what it prints")
        return 1


def _complain(message: str) -> None:
    """One line on standard error; what files bring into messages cannot steer the terminal."""
    print("hwnas: error: " + "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message), file=sys.stderr)


def _interrupted(argv: list[str]) -> int:
    command = next((word for word in argv if word in CONTINUES), "")
    _complain("interrupted" + CONTINUES.get(command, ""))
    return INTERRUPTED


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options of the whole program."""
    if version:
        print(f"hwnas {__version__}")
        raise typer.Exit


@app.command()
def search(
    profile: Annotated[str | None, typer.Option(help="Hardware profile; see `hwnas profiles`.")] = None,
    task: Annotated[str | None, typer.Option(help="What to learn: rhythm (default), heart_rate, sleep ...; see `hwnas tasks`.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of recordings; without it, the signal generator.")] = None,
    spaces: Annotated[
        list[str] | None, typer.Option("--space", help="Search space, a name or a YAML file; give several to search them as one.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="resnet18_1d (default) or another, or several as one: ensemble:A+B; see `hwnas teacher list`.")
    ] = None,
    distillation: Annotated[
        str | None, typer.Option(help="Loss that students learn by: soft (default), none, dkd, pulse, relational, soft+hint:weight=2 ...")
    ] = None,
    cross_fit: Annotated[
        int | None,
        typer.Option(min=0, help="Groups of training subjects whose targets come from a teacher that did not see them; default 0: none."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Candidates to score, rejected ones not counted; default 24.")] = None,
    students: Annotated[int | None, typer.Option(min=1, help="Students to distil fully, at most; default 8.")] = None,
    generation: Annotated[int | None, typer.Option(min=1, help="Candidates proposed at once; default 8.")] = None,
    tuner: Annotated[str | None, typer.Option(help="pareto (evolution, default), random or tpe.")] = None,
    service: Annotated[str | None, typer.Option(help="local (in process, default) or nni (an NNI experiment).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything but the split; default 0.")] = None,
    split_seed: Annotated[int | None, typer.Option(min=0, help="Seed of the split by patient; default 0.")] = None,
    window_s: Annotated[float | None, typer.Option(help="Window length in seconds.")] = None,
    subjects: Annotated[int | None, typer.Option(min=1, help="Subjects to generate.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="Windows to generate.")] = None,
    effort: Annotated[str | None, typer.Option(help="quick (a look in seconds, no results) or normal (default).")] = None,
    calibration: Annotated[str | None, typer.Option(help="Ranges of int8 activations: mse (default), min_max or percentile.")] = None,
    budget: Annotated[str | None, typer.Option(help="Budget preset of the profile: default, strict.")] = None,
    max_ram_kb: Annotated[float | None, typer.Option(help="RAM limit in KB (1024 bytes).")] = None,
    max_flash_kb: Annotated[float | None, typer.Option(help="Flash limit in KB (1024 bytes).")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Latency limit of one inference in ms.")] = None,
    max_energy_uj: Annotated[float | None, typer.Option(help="Energy limit of one inference in uJ.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of these settings, such as a run's run.yaml; flags win over it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/TASK-PROFILE, numbered.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its own settings.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: the cores. Changes no result.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search students that fit the budget, distil the best, and write a run directory."""
    from hwnas.pipeline.resolve import resolve
    from hwnas.pipeline.rundir import default_root
    from hwnas.pipeline.search import run_search

    limits = {
        "preset": budget,
        "max_ram_kb": max_ram_kb,
        "max_flash_kb": max_flash_kb,
        "max_latency_ms": max_latency_ms,
        "max_energy_uj": max_energy_uj,
    }
    flags = {
        "profile": profile,
        "task": task,
        "data": str(data) if data else None,
        "spaces": spaces or None,
        "teacher": teacher,
        "distillation": distillation,
        "cross_fit": cross_fit,
        "trials": trials,
        "students": students,
        "generation": generation,
        "tuner": tuner,
        "service": service,
        "seed": seed,
        "split_seed": split_seed,
        "window_s": window_s,
        "subjects": subjects,
        "windows": windows,
        "effort": effort,
        "calibration": calibration,
    }
    if config is None and resume and out is not None and (out / "run.yaml").exists():
        config = out / "run.yaml"
    settings = resolve(config, flags, limits)
    root = out or default_root(settings, resume=resume)
    if resume and not (root / "run.yaml").exists():
        Console(stderr=True).print(f"{root} holds no run yet; starting one", highlight=False)
    with shown(quiet) as progress:
        front = run_search(settings, root, jobs=jobs or os.cpu_count() or 1, resume=resume, progress=progress)
    if as_json:
        emit(front)
    elif not quiet:
        from hwnas.report import terminal_families, terminal_table

        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(terminal_table(front))
        console.print(terminal_families(front))
        console.print(f"report: {root / 'report.html'}", highlight=False)


@app.command()
def evaluate(
    student: Annotated[Path, typer.Argument(help="Folder of an exported student (runs/NAME/students/ID).")],
    data: Annotated[Path | None, typer.Option(help="Folder of recordings; without it, the signal generator.")] = None,
    runtime: Annotated[str, typer.Option(help="reference, tflite, tflite-xnnpack, onnx, emulator or float.")] = "reference",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the signal generator.")] = 1_000_003,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score an exported student on recordings."""
    from hwnas.pipeline.evaluate import evaluate_student

    with shown(quiet or as_json) as progress:
        result = evaluate_student(student, data, runtime=runtime, seed=seed, progress=progress)
    if as_json:
        emit(result)
        return
    if quiet:
        return
    table = Table(title=f"{student} on {result['data']} ({result['source']}), {result['windows']} windows, {result['subjects']} subjects")
    if seen := result["subjects_seen_in_training"]:
        table.caption = f"{seen} of the {result['subjects']} subjects were trained or chosen on: this says little about others"
    table.add_column("metric")
    table.add_column(f"{result['weights']}, {runtime}", justify="right")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


@app.command()
def export(
    student: Annotated[Path, typer.Argument(help="Folder of a finished student (runs/NAME/students/ID).")],
    formats: Annotated[list[str], typer.Option("--format", help="tflite, onnx, c, coreml or float; give it again for several.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: RUN/exports/ID for RUN/students/ID, else STUDENT-export beside STUDENT.")
    ] = None,
    profile_name: Annotated[
        str | None, typer.Option("--profile", help="Place the C anew for this hardware profile; default: as the student was placed.")
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="C: with windows and the outputs that the target must give.")
    ] = True,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a finished student again in other formats, each verified."""
    from hwnas.cli.exports import export_tables
    from hwnas.pipeline.exporting import export_student

    with shown(quiet or as_json) as progress:
        result = export_student(student, formats, out, profile=profile_name, self_test=self_test, progress=progress)
    if as_json:
        emit(result)
    elif not quiet:
        Console().print(*export_tables(result), sep="\n\n")
        said = result["verified_on"]
        Console().print(
            f"verified on {said['source']} windows ({said['name']}); written to {result['out']}", highlight=False, soft_wrap=True
        )


@app.command()
def profile(
    profile_name: Annotated[str, typer.Option("--profile", help="Hardware profile; see `hwnas profiles`.")],
    space_names: Annotated[list[str] | None, typer.Option("--space", help="Search spaces to cover; default: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write; default: the table of the profile's core.")] = None,
    target: boards.ProfileTarget = None,
    student: Annotated[Path | None, typer.Option(help="With --target: the operators of this finished student alone.")] = None,
    port: boards.Port = None,
    flash: boards.Flash = None,
    baud: boards.Baud = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: the cores. Changes no figure.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fill the lookup table of a profile's core, with the emulator or from a board; goes on where an interrupted filling ended."""
    names, processes = space_names or space.names(), jobs or os.cpu_count() or 1
    with shown(quiet) as progress:
        if target is not None:
            path, rows = boards.profile_board(profile_name, names, student, out, target, port, flash, baud, progress, jobs=processes)
        else:
            boards.refuse_without_target({"--student": student, "--port": port, "--flash": flash, "--baud": baud})
            from hwnas.pipeline.profiling import fill_table

            path, rows = fill_table(profile_name, names, out, progress, jobs=processes)
    if not quiet:
        print(f"{rows:,} rows written to {path}")


@app.command("profiles")
def list_profiles(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None, as_json: Json = False, debug: Debug = False
) -> None:
    """List the hardware profiles, or show one."""
    from hwnas.cli.hardware import one_profile, profile_list

    if name is not None:
        found = profiles.read_any(name)
        if as_json:
            emit(found.model_dump())
        else:
            Console().print(*one_profile(found), sep="\n\n")
        return
    everything = [profiles.read_any(found) for found in profiles.names()]
    if as_json:
        emit([p.model_dump() for p in everything])
    else:
        Console().print(*profile_list(everything), sep="\n\n")


@app.command("spaces")
def list_spaces(
    name: Annotated[str | None, typer.Argument(help="Show this one in full; a name or a YAML file.")] = None,
    profile_name: Annotated[
        str | None, typer.Option("--profile", help=f"Whose budgets random candidates meet; default: {SPACE_PROFILE}.")
    ] = None,
    task: Annotated[str | None, typer.Option(help=f"Whose windows and labels candidates have; default: {SPACE_TASK}.")] = None,
    window_s: Annotated[float | None, typer.Option(help="Window length in seconds; default: the task's.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the search spaces, or show one with its choices and what random candidates of it are like."""
    from hwnas.cli.spaces import one_space, space_list
    from hwnas.pipeline.space_report import describe

    if name is not None:
        report = describe(name, SPACE_PROFILE if profile_name is None else profile_name, SPACE_TASK if task is None else task, window_s)
        if as_json:
            emit(report.as_dict())
        else:
            Console().print(*one_space(report), sep="\n\n")
        return
    given = [flag for flag, value in (("--profile", profile_name), ("--task", task), ("--window-s", window_s)) if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)}: for one space only; name it, as in `hwnas spaces NAME`: {', '.join(space.names())}")
    found = {each: space.read(each) for each in space.names()}
    if as_json:
        emit({each: {"size": s.size, "choices": s.choices} for each, s in found.items()})
    else:
        Console().print(space_list(found))


@app.command("tasks")
def list_tasks(as_json: Json = False, debug: Debug = False) -> None:
    """List the tasks."""
    from hwnas.cli.tasks import task_list, task_values
    from hwnas.tasks import TASKS

    if as_json:
        emit(task_values(TASKS))
    else:
        Console().print(*task_list(TASKS), sep="\n\n")


@data_commands.command("check")
def check_data(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings.")],
    task: Annotated[str | None, typer.Option(help="See `hwnas tasks`; default: what the recordings allow.")] = None,
    window_s: Annotated[float | None, typer.Option(help="Window length in seconds; default: what suits the recordings.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a folder of recordings holds, what of it is left out and why, and what is wrong with it."""
    from hwnas.cli.data import check, check_tables

    said = check(folder, task, window_s)
    if as_json:
        emit(said)
    else:
        Console().print(*check_tables(said), sep="\n\n")
