"""`predict(...) -> Cost` and `violations(cost, budget, profile)`: the gate every candidate passes. No torch, no files.

A prediction reads the graph, its deployment and the lookup table; nothing that a run of the model itself produced.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hwnas.graph import Graph
from hwnas.hardware.deployment import Deployment, flash_bytes
from hwnas.hardware.ops import table_key
from hwnas.hardware.profile import BUDGET_FIELDS, STACK_BYTES, Budget, Profile
from hwnas.hardware.table import Choice, LookupTable
from hwnas.memory import align

PREDICTED, EMULATED = "predicted", "emulated (modelled cycles)"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one inference costs on a profile.

    Attributes:
        parameters, macs: of the graph.
        flash_bytes: code, packed weights and layer tables.
        ram_bytes: arena, input and output buffers, static data and stack.
        cycles, latency_us, energy_uj: of one inference, waiting for flash or memory included.
        average_power_uw: energy of inference at one inference a window; sensing and sleep are not in it.
        uncertainty_factor: latency may be so many times higher or lower.
        energy_uncertainty_factor: the same for energy and average power.
        provenance: "predicted" or "emulated (modelled cycles)", core and method.
    """

    parameters: int
    macs: int
    flash_bytes: int
    ram_bytes: int
    cycles: int
    latency_us: float
    energy_uj: float
    average_power_uw: float
    uncertainty_factor: float
    energy_uncertainty_factor: float
    provenance: str

    def as_dict(self) -> dict[str, float | int | str]:
        """The figures by name."""
        return asdict(self)


def operator_cycles(graph: Graph, deployment: Deployment, table: LookupTable) -> list[int]:
    """Predicted cycles of every operator after the input node, at zero wait states; raises MissingEntryError."""
    return [choice.cost.cycles for choice in _chosen(graph, deployment, table)]


def predict(graph: Graph, deployment: Deployment, profile: Profile, table: LookupTable, window_s: float) -> Cost:
    """The cost of `graph`, deployed so, on `profile` at one inference per `window_s` seconds.

    Raises:
        MissingEntryError: the table lacks an operator shape of the graph.
    """
    extra, chosen = table.overheads, _chosen(graph, deployment, table)
    operators, calls = [choice.cost for choice in chosen], sum(choice.calls for choice in chosen)
    cycles = profile.cycles(
        extra.frame_cycles + calls * extra.call_cycles + sum(o.cycles for o in operators),
        extra.frame_read_bytes + calls * extra.call_read_bytes + sum(o.flash_read_bytes for o in operators),
        extra.frame_lines + calls * extra.call_lines + sum(o.fetch_lines for o in operators),
        sum(choice.constants_bytes for choice in chosen),
    )
    stack = extra.frame_stack_bytes + max(o.stack_bytes for o in operators)
    buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements)
    ram = deployment.plan.arena_bytes + buffers + extra.static_bytes + stack
    flash = flash_bytes(chosen, table)
    return assemble(graph, profile, window_s, cycles, ram, flash, provenance(PREDICTED, table))


def provenance(kind: str, table: LookupTable) -> str:
    """What a figure is: its kind, and the core and method that it comes from."""
    return f"{kind}: {table.core}, {table.provenance['method']}"


def assemble(graph: Graph, profile: Profile, window_s: float, cycles: int, ram: int, flash: int, provenance: str) -> Cost:
    """A `Cost` from cycles (waiting for flash included) and bytes, however those were found."""
    energy_uj = profile.energy_uj(cycles)
    return Cost(
        graph.parameters,
        graph.macs,
        flash,
        ram,
        cycles,
        profile.latency_us(cycles),
        energy_uj,
        energy_uj / window_s,
        profile.uncertainty_factor,
        profile.energy_uncertainty_factor,
        provenance,
    )


def violations(cost: Cost, budget: Budget, profile: Profile) -> dict[str, tuple[float, float]]:
    """Every limit that `cost` breaks: name -> (needed, allowed). Empty when it fits.

    However much a budget allows, the part's own memory is a limit too; of its SRAM, what the linker keeps for the stack stays free.
    """
    allowed = {name: getattr(budget, name) for name in BUDGET_FIELDS}
    allowed["ram_bytes"] = min(budget.ram_bytes, profile.memory.sram.bytes - STACK_BYTES)
    allowed["flash_bytes"] = min(budget.flash_bytes, profile.memory.flash.bytes)
    return {name: (need, limit) for name, limit in allowed.items() if (need := getattr(cost, name)) > limit}


def _chosen(graph: Graph, deployment: Deployment, table: LookupTable) -> list[Choice]:
    """Every operator in the layout that the deployment gives it."""
    found = []
    for node, weights in zip(graph.nodes[1:], deployment.weights[1:], strict=True):
        for choice in table.choices(node.op, graph.in_shape(node), node.shape):
            if choice.weights == weights:
                found.append(choice)
                break
        else:
            # The layout is no choice: the table says why not.
            table.cost(*table_key(node.op, graph.in_shape(node), node.shape, weights))
    return found
