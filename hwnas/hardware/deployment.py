"""How a student lies in memory: its arena plan and the layout of every operator's weights. Costed here, read by the C export. No files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hwnas.graph import Graph
from hwnas.hardware.ops import Layout
from hwnas.hardware.profile import Profile
from hwnas.hardware.table import Choice, LookupTable
from hwnas.hardware.weights import layouts
from hwnas.memory import Plan, plan


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is costed and what ships.

    Attributes:
        plan: places in the arena.
        weights: layout of each node's weights, "none" for the input and for operators without weights.
    """

    plan: Plan
    weights: tuple[Layout, ...]


def uniform(graph: Graph, layout: Layout = "int8") -> Deployment:
    """Every operator in `layout` where it has that one, else in the smallest it has."""
    weights: list[Layout] = ["none"]
    for node in graph.nodes[1:]:
        choices = layouts(node.op, graph.in_shape(node))
        weights.append(layout if layout in choices else choices[0])
    return Deployment(plan(graph), tuple(weights))


def deploy(graph: Graph, profile: Profile, table: LookupTable, flash_limit_bytes: float) -> Deployment:
    """The fastest layouts of weights that this finds within a flash limit.

    Starts from the smallest layouts and takes, while flash allows, the change that saves the most cycles (waiting for flash included) per
    byte that it adds: constants, and the code of kernels that come into use less that of kernels that fall out of it. A change that adds
    nothing is taken even where the limit is broken anyway; a layout that saves no cycles is never taken.

    Raises:
        MissingEntryError: the table lacks an operator shape of the graph.
    """
    choices = [table.choices(node.op, graph.in_shape(node), node.shape) for node in graph.nodes[1:]]
    chosen = [found[0] for found in choices]
    wait = profile.flash_wait
    per_byte, per_line = (wait.cycles_per_byte, wait.cycles_per_line) if wait else (0.0, 0.0)
    upgrades: list[tuple[int, Choice, float]] = []  # operator, its other layout, cycles saved
    for index, found in enumerate(choices):
        for other in found[1:]:
            old, new = found[0].cost, other.cost
            saved: float = old.cycles - new.cycles
            saved += per_byte * (old.flash_read_bytes - new.flash_read_bytes) + per_line * (old.fetch_lines - new.fetch_lines)
            if profile.weight_stream:
                saved -= (other.constants_bytes - found[0].constants_bytes) / profile.weight_stream.bytes_per_cycle
            if saved > 0:
                upgrades.append((index, other, saved))
    everything = chosen.copy()
    for index, other, _ in upgrades:
        everything[index] = other
    need = flash_bytes(everything, table)
    if need > flash_limit_bytes:
        _upgrade(chosen, upgrades, flash_limit_bytes - flash_bytes(chosen, table))
    if need <= max(flash_limit_bytes, flash_bytes(chosen, table)):
        chosen = everything
    return Deployment(plan(graph), ("none", *(choice.weights for choice in chosen)))


def flash_bytes(choices: list[Choice], table: LookupTable) -> int:
    """Flash of a whole student: base code, every kernel in use once, constants."""
    code = {choice.cost.function: choice.cost.code_bytes for choice in choices}
    return table.overheads.code_bytes + sum(code.values()) + sum(choice.constants_bytes for choice in choices)


def _upgrade(chosen: list[Choice], upgrades: list[tuple[int, Choice, float]], room_bytes: float) -> None:
    """Change `chosen` in place, the best change first, as long as one fits into the room that is left, or needs none."""
    users = Counter(choice.cost.function for choice in chosen)

    def added(index: int, new: Choice) -> int:
        old = chosen[index]
        comes = new.cost.code_bytes if not users[new.cost.function] else 0
        goes = old.cost.code_bytes if users[old.cost.function] == 1 and new.cost.function != old.cost.function else 0
        return new.constants_bytes - old.constants_bytes + comes - goes

    waiting = upgrades.copy()
    while fitting := [(size, u) for u in waiting if (size := added(u[0], u[1])) <= max(room_bytes, 0)]:
        # A change that adds nothing is the best there is; ties go to the operator that runs first.
        size, best = max(fitting, key=lambda f: (f[1][2] / max(f[0], 1e-9), -f[1][0]))
        index, new, _ = best
        users[chosen[index].cost.function] -= 1
        users[new.cost.function] += 1
        chosen[index] = new
        room_bytes -= size
        waiting.remove(best)
