"""The front as a table for the terminal. Pure: returns a rich table."""

from __future__ import annotations

from rich import box
from rich.table import Table

from hwnas.report.content import COSTS, EMULATED, PREDICTED, Front, cost, doubt, figure, primary, score, source, title
from hwnas.report.facts import warning


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
    # 80 columns wide: both kinds where they decide, one for flash; energy is latency times a constant of the profile.
    kinds: dict[str, tuple[str, ...]] = {
        "latency_us": (PREDICTED, EMULATED),
        "ram_bytes": (PREDICTED, EMULATED),
        "flash_bytes": (EMULATED,),
    }
    if not emulated:
        kinds = dict.fromkeys(COSTS, (PREDICTED,))
    table.add_column("student", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    for name, shown in kinds.items():
        for kind in shown:
            table.add_column(COSTS[name].title.replace(", ", "\n") + f"\n{'emul.' if kind == EMULATED else 'pred.'}", justify="right")
    for part in ("valid.", "test"):
        table.add_column(f"{title(first)}\n{part}", justify="right", style="bold", no_wrap=True)
    for s in students:
        costs = [COSTS[name].show(cost(s, name, kind), doubt(front, name)) for name, shown in kinds.items() for kind in shown]
        quality = [figure(score(s, part, first)) for part in ("validation", "test")]
        table.add_row(str(s["id"]), figure(s.get("parameters")), *costs, *quality)
    return table
