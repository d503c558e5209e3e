"""The command line: parse, call the pipeline, print. Nothing is decided here.

Exit codes: 0 done, 1 failure, 2 wrong usage, 130 interrupted. Errors are one message on standard error; a traceback only with `--debug`.
"""

from __future__ import annotations

from hwnas.cli.app import main

__all__ = ["main"]
