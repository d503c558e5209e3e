"""The front, and what became of every family, as tables for the terminal. Pure: returns rich tables."""

from __future__ import annotations

from rich import box
from rich.table import Table

from hwnas.report.content import (
    COSTS,
    EMULATED,
    NONE,
    PREDICTED,
    Front,
    cost,
    doubt,
    families,
    figure,
    measure,
    primary,
    score,
    source,
)
from hwnas.report.facts import warning
from hwnas.report.sections import family_counts


def terminal_table(front: Front) -> Table:
    """The Pareto front of the content of `front.json`. Each column holds one kind of figure, named in its head."""
    first, students = primary(front), front.get("students", [])
    emulated = any(cost(s, name, EMULATED) is not None for s in students for name in COSTS)
    look = warning(front)
    table = Table(
        title=f"Pareto front: {front.get('task')} on {front.get('profile')}, {source(front)} data, int8" + (f"\n{look}" if look else ""),
        caption="emulated: the shipped binary executed with modelled cycles; predicted: before training" if emulated else None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    several = len(families(front)) > 1
    # 80 columns wide: both kinds where they decide, one for flash; energy is latency times a constant of the profile.
    kinds: dict[str, tuple[str, ...]] = {
        "latency_us": (PREDICTED, EMULATED),
        "ram_bytes": (EMULATED,) if several else (PREDICTED, EMULATED),
        "flash_bytes": (EMULATED,),
    }
    if not emulated:
        kinds = dict.fromkeys(COSTS, (PREDICTED,))
    table.add_column("student", no_wrap=True)
    table.add_column("family" if several else "params", justify="left" if several else "right", no_wrap=True)
    for name, shown in kinds.items():
        for kind in shown:
            table.add_column(COSTS[name].title.replace(", ", "\n") + f"\n{'emul.' if kind == EMULATED else 'pred.'}", justify="right")
    metric = measure(first)
    for part in ("valid.", "test"):
        table.add_column("\n".join(filter(None, (metric.name, metric.unit, part))), justify="right", style="bold", no_wrap=True)
    for s in students:
        costs = [COSTS[name].show(cost(s, name, kind), doubt(front, name)) for name, shown in kinds.items() for kind in shown]
        quality = [metric.show(score(s, part, first)) for part in ("validation", "test")]
        table.add_row(str(s["id"]), str(s.get("family") or NONE) if several else figure(s.get("parameters")), *costs, *quality)
    return table


def terminal_families(front: Front) -> Table:
    """What became of every family: a small table, a row a family."""
    section = family_counts(front)
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for i, column in enumerate(section.columns[:-1]):  # without the share of random candidates, to fit 80 columns
        table.add_column(column.title, justify="right" if i else "left", no_wrap=not i)
    for row in section.rows:
        table.add_row(*row[:-1])
    return table
