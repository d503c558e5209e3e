"""`predict(graph, profile, table) -> Cost` and `violations(cost, budget)`: the gate every candidate passes. No torch, no files.

A prediction reads the graph, the arena plan and the lookup table; nothing that a run of the model itself produced.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hwnas.graph import Graph
from hwnas.hardware.ops import op_key
from hwnas.hardware.profile import BUDGET_FIELDS, Budget, Profile
from hwnas.hardware.table import LookupTable
from hwnas.hardware.weights import flash_bytes
from hwnas.memory import Plan, align


@dataclass(frozen=True, slots=True)
class Cost:
    """What one inference costs on a profile.

    Attributes:
        parameters, macs: of the graph.
        flash_bytes: code, packed weights and layer tables.
        ram_bytes: arena, input and output buffers, static data and stack.
        cycles, latency_us, energy_uj: of one inference.
        average_power_uw: energy of inference at one inference a window; sensing and sleep are not in it.
        provenance: "predicted" or "emulated (modelled cycles)".
    """

    parameters: int
    macs: int
    flash_bytes: int
    ram_bytes: int
    cycles: int
    latency_us: float
    energy_uj: float
    average_power_uw: float
    provenance: str

    def as_dict(self) -> dict[str, float | int | str]:
        """The figures by name."""
        return asdict(self)


def operator_cycles(graph: Graph, table: LookupTable) -> list[int]:
    """Predicted cycles of every operator after the input node; raises MissingEntryError."""
    nodes = graph.nodes
    return [_operator(graph, i, table)[0] for i in range(1, len(nodes))]


def predict(graph: Graph, plan: Plan, profile: Profile, table: LookupTable, window_s: float) -> Cost:
    """The cost of `graph` on `profile` at one inference per `window_s` seconds.

    Raises:
        MissingEntryError: the table lacks an operator shape of the graph.
    """
    extra = table.overheads
    cycles, stack = extra.frame_cycles, 0
    for index in range(1, len(graph.nodes)):
        operator, operator_stack = _operator(graph, index, table)
        cycles += operator + extra.call_cycles
        stack = max(stack, operator_stack)
    buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements)
    ram = plan.arena_bytes + buffers + extra.static_bytes + extra.frame_stack_bytes + stack
    return assemble(graph, profile, window_s, cycles, ram, flash_bytes(graph) + extra.code_bytes, "predicted")


def assemble(graph: Graph, profile: Profile, window_s: float, cycles: int, ram: int, flash: int, provenance: str) -> Cost:
    """A `Cost` from cycles and bytes, however those were found."""
    energy_uj = profile.energy_uj(cycles)
    return Cost(graph.parameters, graph.macs, flash, ram, cycles, profile.latency_us(cycles), energy_uj, energy_uj / window_s, provenance)


def violations(cost: Cost, budget: Budget) -> dict[str, tuple[float, float]]:
    """Every limit that `cost` breaks: name -> (needed, allowed). Empty when it fits."""
    return {name: (getattr(cost, name), getattr(budget, name)) for name in BUDGET_FIELDS if getattr(cost, name) > getattr(budget, name)}


def _operator(graph: Graph, index: int, table: LookupTable) -> tuple[int, int]:
    node = graph.nodes[index]
    source = graph.nodes[node.inputs[0]].shape
    return table.cost(op_key(node.op, source, node.shape), source.length)
