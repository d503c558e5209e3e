"""`hwnas report` and `hwnas open`: reports from run folders, and a reader's web server. `register` adds them to the program."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hwnas.cli.common import Debug, Json, Quiet, emit
from hwnas.cli.serving import FolderServer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("report")(report)
    app.command("open")(open_report)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN ...]", help="Folder of a finished run; several are compared.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: the run itself, or runs/comparison where several are compared.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run anew from its files, or compare several runs in one."""
    from hwnas.pipeline.reporting import compare, rewrite

    written = rewrite(runs[0], out) if len(runs) == 1 else compare(runs, out)
    if as_json:
        emit({"runs": [str(run) for run in runs], "files": [str(path) for path in written]})
    elif not quiet:
        for path in written:
            Console().print(str(path), highlight=False, soft_wrap=True, markup=False)


def open_report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a comparison that `hwnas report` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; default: a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    debug: Debug = False,
) -> None:
    """Show a run's report in the browser, served to this machine only; Ctrl-C ends it."""
    from hwnas.pipeline.reporting import index

    with FolderServer(run, index(run), port) as server:
        try:
            print(f"{run}: {server.address} (this machine only; Ctrl-C ends it)", flush=True)
            if browser and not webbrowser.open(server.address):
                print("no browser was found; open that address in one", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
