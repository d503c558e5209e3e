"""Comparison of an exported file with the int8 reference, end to end and operator by operator. numpy; no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ExportError
from hwnas.graph import OP_NAMES, Op
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import value_of

RunFile = Callable[[Int8], Int8]
RunNode = Callable[[int, list[Int8]], Int8]


class Allowance(NamedTuple):
    """How far an operator's outputs may be from the reference's: `share` of them within `steps`."""

    steps: int
    share: float = 1.0


ONE_STEP = Allowance(1)
Allowed = Mapping[type[Op], Allowance]


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """How far int8 outputs are from the reference's, in quantisation steps.

    Attributes:
        share_differing: share of the outputs (windows x classes) that differ.
        share_within_one_step: share of the outputs that differ by one step at most.
        share_within_two_steps: by two steps at most.
        share_same_class: share of the windows whose first largest output is the same one; None of a regression.
        largest_step: largest difference of an output.
        largest_difference, unit: of what a regression's outputs are read out as, in its unit; None of a classifier.
    """

    share_differing: float
    share_within_one_step: float
    share_within_two_steps: float
    share_same_class: float | None
    largest_step: int
    largest_difference: float | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison(EndToEnd):
    """How far a file is from the reference; the figures of `EndToEnd` are those of the first set of kernels.

    Attributes:
        windows: windows that were compared.
        operator_largest_step: largest difference of one operator's output when it is given the reference's inputs.
        operator_steps: that figure by operator.
        kernels: the figures end to end by set of kernels.
    """

    windows: int
    operator_largest_step: int
    operator_steps: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, EndToEnd] = field(default_factory=dict)


def part(q: QuantGraph, nodes: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """(tensors read, nodes) of an exported model: consecutive `nodes` with what they do not make themselves, or all of `q`."""
    chosen = list(nodes) if nodes is not None else list(range(1, len(q.graph.nodes)))
    return [i for i in dict.fromkeys(i for n in chosen for i in q.graph.nodes[n].inputs) if i not in chosen], chosen


def compare(
    q: QuantGraph,
    check: Int8,
    what: str,
    whole: Mapping[str, RunFile],
    run_nodes: Iterable[RunNode],
    allowed: Allowed,
) -> Comparison:
    """Compare on windows `check` int8 (M, T, C).

    Args:
        what: name of the file or format in messages.
        whole: the whole file by set of kernels: int8 (M, T, C) -> int8 (M, K).
        run_nodes: one operator alone, by each set of kernels: node index, inputs int8 (M, rows, C) -> output.
        allowed: what operators are allowed that cannot keep to `ONE_STEP`.

    Raises:
        ExportError: no windows, or an operator is further away than it may be.
    """
    if len(check) == 0:
        raise ExportError(f"{what}: no windows to verify it with; give at least one")
    tensors = reference.run_all(q, check)
    kernels = list(run_nodes)
    steps: dict[str, int] = {}
    for index, node in enumerate(q.graph.nodes[1:], start=1):
        name, allowance = OP_NAMES[type(node.op)], allowed.get(type(node.op), ONE_STEP)
        for run_node in kernels:
            step = _steps(run_node(index, [tensors[i] for i in node.inputs]), tensors[index])
            largest, within = int(step.max(initial=0)), float((step <= allowance.steps).mean())
            if within < allowance.share:
                raise ExportError(
                    f"{what}: node {index} ({name}) is {largest} steps from the int8 reference and {100 * within:.4g} % of its outputs are "
                    f"within {allowance.steps}; {100 * allowance.share:g} % must be: the runtime computes it otherwise than the file says"
                )
            steps[name] = max(steps.get(name, 0), largest)
    expected = tensors[-1].reshape(len(check), -1)
    found = {name: _read_out(q, run(check), expected) for name, run in whole.items()}
    first = next(iter(found.values()))
    return Comparison(**vars(first), windows=len(check), operator_largest_step=max(steps.values()), operator_steps=steps, kernels=found)


def _read_out(q: QuantGraph, produced: Int8, expected: Int8) -> EndToEnd:
    """The figures of outputs (M, K), of a regression with how far apart their values are."""
    figures, value = end_to_end(produced, expected), value_of(q.labels)
    if value is None:
        return figures
    apart = np.abs(value.real(real_outputs(q, produced)) - value.real(real_outputs(q, expected)))
    return replace(figures, share_same_class=None, largest_difference=float(apart.max()), unit=value.unit)


def end_to_end(produced: Int8, expected: Int8) -> EndToEnd:
    """Compare outputs (M, K) of a runtime with the reference's."""
    step = _steps(produced, expected).reshape(expected.shape)
    return EndToEnd(
        share_differing=float((step > 0).mean()),
        share_within_one_step=float((step <= 1).mean()),
        share_within_two_steps=float((step <= 2).mean()),
        share_same_class=float((produced.argmax(1) == expected.argmax(1)).mean()) if expected.shape[1] > 1 else None,
        largest_step=int(step.max(initial=0)),
    )


def _steps(produced: Int8, expected: Int8) -> NDArray[np.int16]:
    """Absolute differences of two arrays with as many values, flat."""
    steps: NDArray[np.int16] = np.abs(np.subtract(produced.reshape(-1), expected.reshape(-1), dtype=np.int16))
    return steps
