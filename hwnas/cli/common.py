"""What commands share: their common flags, progress on standard error, JSON on standard output."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from hwnas.cli.display import TerminalProgress
from hwnas.pipeline.progress import Progress, Silent

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and what --json asks for.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextlib.contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """Progress of a command: on the terminal, or nowhere."""
    if quiet:
        yield Silent()
    else:
        with TerminalProgress(Console(stderr=True)) as display:
            yield display


def emit(content: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(content, indent=1, allow_nan=False))
