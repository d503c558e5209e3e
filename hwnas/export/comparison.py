"""Comparison of an exported file with the int8 reference, end to end and operator by operator. numpy; no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.errors import ExportError
from hwnas.graph import OP_NAMES
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph

OPERATOR_STEPS_ALLOWED = 1


@dataclass(frozen=True)
class Comparison:
    """How far a runtime's int8 results are from the reference's, in quantisation steps.

    Attributes:
        windows: windows that were compared.
        share_differing: share of the outputs (windows x classes) that differ.
        largest_step: largest difference of an output.
        operator_largest_step: largest difference of one operator's output when it is given the reference's inputs.
    """

    windows: int
    share_differing: float
    largest_step: int
    operator_largest_step: int


def part(q: QuantGraph, nodes: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """(tensors read, nodes) of an exported model: consecutive `nodes` with what they do not make themselves, or all of `q`."""
    chosen = list(nodes) if nodes is not None else list(range(1, len(q.graph.nodes)))
    return [i for i in dict.fromkeys(i for n in chosen for i in q.graph.nodes[n].inputs) if i not in chosen], chosen


RunNode = Callable[[int, list[Int8]], Int8]


def compare(q: QuantGraph, check: Int8, what: str, run: Callable[[Int8], Int8], run_nodes: Iterable[RunNode]) -> Comparison:
    """Compare on windows `check` int8 (M, T, C).

    Args:
        what: name of the file or format in messages.
        run: the whole file: int8 (M, T, C) -> int8 (M, K).
        run_nodes: one operator alone, by each set of kernels of the runtime: node index, inputs int8 (M, L, C) -> output.

    Raises:
        ExportError: no windows, or an operator is more than one step away.
    """
    if len(check) == 0:
        raise ExportError(f"{what}: no windows to verify it with; give at least one")
    tensors = reference.run_all(q, check)
    kernels = list(run_nodes)
    worst = 0
    for index, node in enumerate(q.graph.nodes[1:], start=1):
        for run_node in kernels:
            step = largest_step(run_node(index, [tensors[i] for i in node.inputs]), tensors[index])
            if step > OPERATOR_STEPS_ALLOWED:
                raise ExportError(
                    f"{what}: node {index} ({OP_NAMES[type(node.op)]}) is {step} steps from the int8 reference, "
                    f"{OPERATOR_STEPS_ALLOWED} is allowed; the runtime computes it otherwise than the file says"
                )
            worst = max(worst, step)
    expected = tensors[-1].reshape(len(check), -1)
    produced = run(check)
    return Comparison(len(check), float((produced != expected).mean()), largest_step(produced, expected), worst)


def largest_step(produced: Int8, expected: Int8) -> int:
    """Largest absolute difference of two int8 arrays with as many values."""
    return int(np.abs(produced.reshape(-1).astype(np.int16) - expected.reshape(-1)).max(initial=0))
