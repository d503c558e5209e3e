"""Arena plan: which byte of the activation arena each tensor lives in, and when. Pure Python; no torch, no files.

The plan that is costed is the plan that the C export emits. The window and the logits are the caller's buffers, every other
tensor has an offset in one arena. A tensor lives from the node that writes it to the last node that reads it, a node's scratch while
the node runs; what does not live at the same time may share bytes. Placement is largest first, each at the lowest offset that is
free during its life (the greedy-by-size rule of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.graph import Conv1d, Dense, Graph, Node, Shape

ALIGNMENT_BYTES = 4
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """Byte offsets into the arena, multiples of 4.

    Attributes:
        offsets: one a node, where it writes; `ABSENT` (-1) for the input window and the output logits, which the caller owns.
        scratch: one a node, where it keeps intermediate values; `ABSENT` for nodes that need none.
        arena_bytes: size of the arena.
    """

    offsets: tuple[int, ...]
    scratch: tuple[int, ...]
    arena_bytes: int


def align(size_bytes: int) -> int:
    """`size_bytes` rounded up to the arena's alignment."""
    return (size_bytes + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


def scratch_bytes(node: Node, source: Shape) -> int:
    """Scratch of one node: convolutions and dense layers widen two windows of `kernel * channels` samples to 16 bits."""
    op = node.op
    if isinstance(op, Conv1d):
        return 4 * align(op.kernel * source.channels)
    return 4 * align(source.channels) if isinstance(op, Dense) else 0


def plan(graph: Graph) -> Plan:
    """Place every tensor of `graph`; see the module's head for the rule."""
    nodes = graph.nodes
    count = len(nodes)
    last_read = list(range(count))
    # (size, tensor, first node of its life, last node); the scratch of node i is tensor count + i.
    tensors: list[tuple[int, int, int, int]] = []
    for index in range(1, count):
        node = nodes[index]
        for source in node.inputs:
            last_read[source] = index
        if need := scratch_bytes(node, nodes[node.inputs[0]].shape):
            tensors.append((need, count + index, index, index))
    tensors += [(align(nodes[i].shape.elements), i, i, last_read[i]) for i in range(1, count - 1)]
    tensors.sort(key=lambda t: (-t[0], t[1]))

    offsets = [ABSENT] * (2 * count)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; kept sorted by offset
    arena = 0
    for size, tensor, first, last in tensors:
        start = 0
        for offset, end, other_first, other_last in placed:
            if other_first <= last and first <= other_last and end > start:
                if offset >= start + size:
                    break
                start = end
        offsets[tensor] = start
        placed.append((start, start + size, first, last))
        placed.sort()
        arena = max(arena, start + size)
    return Plan(tuple(offsets[:count]), tuple(offsets[count:]), arena)
