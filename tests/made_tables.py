"""Lookup tables made by a formula, for tests that need figures of every shape and not those of the kernels. No files."""

from __future__ import annotations

from collections.abc import Iterable

from hwnas.graph import node_macs
from hwnas.hardware.ops import OpKey, node_of
from hwnas.hardware.table import LookupTable, OperatorCost, Overheads, Row, new_table
from hwnas.hardware.weights import packed_bytes

OVERHEADS = Overheads(60, 34, 8, 20, 4, 3, 56, 0, 600)
PROVENANCE = {"core": "cortex-m4", "pointer_bytes": "4", "kernel_set": "0" * 16, "toolchain": "none", "method": "a formula"}
CODE_BYTES = {"int8": 700, "int16": 520, "none": 200}


def made_cost(key: OpKey, in_length: int) -> OperatorCost:
    """Plausible figures: int16 weights cost fewer cycles and twice the reads; every two positions read all weights."""
    node, source = node_of(key, in_length)
    weights = packed_bytes(node.op, source, key.weights)
    cycles = 100 + 3 * node.shape.elements + node_macs(node, source) * (17 if key.weights == "int8" else 14) // 10
    reads = weights * -(-node.shape.length // 2)
    function = f"hwnas_{key.operator}_{key.weights}"
    if key.operator == "depthwise_conv1d":
        function += f"_k{key.kernel}_s{key.stride}_c{key.in_channels}"
    return OperatorCost(cycles, reads, cycles // 50, 40 + len(key.operator), function, CODE_BYTES[key.weights])


def made_row(key: OpKey, in_length: int) -> Row:
    """The same as a row of one length."""
    cost = made_cost(key, in_length)
    counts = (cost.cycles, 0, cost.flash_read_bytes, 0, cost.fetch_lines, 0)
    return Row(key, in_length, 0, *counts, cost.stack_bytes, cost.function, cost.code_bytes)


def made_table(shapes: Iterable[tuple[OpKey, int]]) -> LookupTable:
    """A table of those shapes."""
    return new_table(PROVENANCE, OVERHEADS, [made_row(key, length) for key, length in sorted(shapes)])
