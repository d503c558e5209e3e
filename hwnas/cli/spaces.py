"""What `hwnas spaces` shows. Pure: returns rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from hwnas.cli.display import plain_table
from hwnas.pipeline.space_report import SpaceReport, Spread
from hwnas.space import SearchSpace


def space_list(spaces: Mapping[str, SearchSpace]) -> Table:
    """One row a space, by its name."""
    table = plain_table("space", "family", "architectures", "description")
    for name, space in spaces.items():
        table.add_row(name, space.family, f"{space.size:.1e}", space.description)
    return table


def one_space(report: SpaceReport) -> list[Table]:
    """Every choice of a space, and what its random candidates are like."""
    return [_facts(report), _choices(report.space), _candidates(report)]


def _facts(report: SpaceReport) -> Table:
    table = plain_table(report.space.family, "")
    table.add_row("networks", report.space.description)
    table.add_row("architectures", f"{report.space.size:.3g}")
    return table


def _choices(space: SearchSpace) -> Table:
    table = plain_table("choice", "values", "only where")
    for choice in space.declared:
        table.add_row(choice.name, _words(choice.values, ", "), " and ".join(f"{n} is {_words(v, ' or ')}" for n, v in choice.when.items()))
    return table


def _candidates(report: SpaceReport) -> Table:
    table = plain_table(f"{report.candidates} random candidates", f"{report.task}, windows of {report.window_s:g} s")
    table.add_row("parameters", _spread(report.parameters))
    table.add_row("MACs", _spread(report.macs))
    for budget, share in report.fits.items():
        table.add_row(f"fit {report.profile}, {budget}", f"{share:.0%}, predicted")
    if report.unknown:
        table.add_row(f"fit {report.profile}", f"unknown: {report.unknown}")
    return table


def _spread(spread: Spread) -> str:
    return f"smallest {spread.smallest:,}, median {spread.median:,}, largest {spread.largest:,}"


def _words(values: Iterable[int], between: str) -> str:
    return between.join(map(str, values))
