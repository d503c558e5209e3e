"""The one exception tree. Touches nothing; imported by everything.

    HwnasError                 exit code 1: something failed
    |-- UsageError             exit code 2: the command line or a configuration file is wrong
    |   `-- ConfigError        a YAML file: unknown key, wrong type, impossible combination
    |-- DataError              recordings that cannot be used
    |-- GraphError             a network that cannot be built
    |-- CostError              a figure that cannot be given
    |   `-- MissingEntryError  an operator shape that the lookup table does not hold
    |-- BudgetError            no candidate of the space can meet the budget
    |-- TrainingError          a training that diverged or cannot start
    |-- QuantizationError      a float model that has no faithful int8 form
    |-- ExportError            a file that could not be written or failed its own verification
    |-- FirmwareError          the tool chain, the emulator or a board failed
    |   |-- LinkError          the line to a board: no answer, a reset, a port that is gone
    |   `-- IdentityError      a board that runs other firmware than the one asked for
    `-- RunError               a run directory that cannot be created, written or resumed

A message says what is wrong, where, what was found, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class HwnasError(Exception):
    """Anything a user can be told in a sentence. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(HwnasError):
    """The command line or a configuration file asks for something that does not exist."""

    exit_code = 2


class ConfigError(UsageError):
    """A YAML file has an unknown key, a wrong type or an impossible combination."""


class DataError(HwnasError):
    """Recordings are absent, unreadable or unusable."""


class GraphError(HwnasError):
    """A network description is inconsistent."""


class CostError(HwnasError):
    """A cost figure cannot be given honestly."""


class MissingEntryError(CostError):
    """The lookup table of a profile has no row for an operator shape."""


class BudgetError(HwnasError):
    """No candidate of the search space can meet the budget."""


class TrainingError(HwnasError):
    """A training diverged or cannot start."""


class QuantizationError(HwnasError):
    """A float model has no faithful integer form."""


class ExportError(HwnasError):
    """An exported file could not be written, or failed its own verification."""


class FirmwareError(HwnasError):
    """The tool chain, the emulator or a board failed."""


class LinkError(FirmwareError):
    """The line to a board failed for good: no answer after bounded tries, a board that was reset, a port or process that is gone."""


class IdentityError(FirmwareError):
    """A board that answers, and runs other firmware than the one asked for."""


class RunError(HwnasError):
    """A run directory cannot be created, written or resumed."""


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Return `table[name]`, or raise UsageError listing the choices and the closest match."""
    if name in table:
        return table[name]
    raise UsageError(unknown(what, name, table))


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """The sentence for a name that does not exist: what was given, what exists, what is close."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{name}'; choose one of: {', '.join(choices)}.{hint}"
