"""Arena plan: which byte of the activation arena each tensor lives in, and when. Pure Python; no torch, no files.

The plan that is costed is the plan that the C export emits. The window and the logits are the caller's buffers, every other
tensor has an offset in one arena. A tensor lives from the node that writes it to the last node that reads it, a node's scratch while
the node runs. What does not live at the same time may share bytes, and so may an operator's output and an input that it is the last
to read, as far as its kernel allows:

- sums, pooling and short depthwise filters write exactly over their input;
- convolutions write in the order of time, so their output may run behind the bytes that they have yet to read (`distance_bytes`; the
  diagonal memory optimisation of Blacker et al., 2020).

Modalities lie one after the other, each on a word, and all but sums treat them in that order. Their results are never longer than their
inputs where they take their place, so one that starts before its input ends before the next one's.

Packing: tensors that take each other's place form one buffer. Buffers are placed largest first, each at the lowest offset that is free
(Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020), and again with the buffer that ended
on top placed first. The most bytes alive at one node bound the arena from below. Where that bound is not met, a search over the few
buffers that can matter finds a smaller arena, or shows that there is none. It counts its steps, so a plan depends on the graph alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hwnas.graph import (
    Add,
    AvgPool1d,
    Conv1d,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    Lstm,
    MaxPool1d,
    Node,
    Op,
    Shape,
    same_padding,
)

ALIGNMENT_BYTES = 4
ABSENT = -1
SHORT_VALUES = 8  # longest window of `hwnas_conv1d_short`
SHORT_WORDS = 7  # words of two samples that it holds at once, for four windows
IN_PLACE_KERNEL = 9  # longest depthwise filter that keeps its window in registers
GREEDY_ROUNDS = 4
SEARCH_STEPS = 400
STEPS_PER_WAY = 8  # what it costs to set up one way in which outputs take places


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


def modality_bytes(shape: Shape) -> int:
    """Bytes from where one modality of a tensor begins to where the next one does: kernels and the layer table know whole words."""
    return align(shape.channels * shape.length)


def values_bytes(shape: Shape) -> int:
    """Bytes from the first value of a tensor to its last one; up to three between two modalities hold none."""
    return (shape.modalities - 1) * modality_bytes(shape) + shape.channels * shape.length


def is_short(op: Conv1d, source: Shape) -> bool:
    """Whether `hwnas_conv1d_short` computes `op`: four windows, a whole number of words apart, fit its registers."""
    values, step = op.kernel * source.channels, op.stride * source.channels
    return op.dilation == 1 and values <= SHORT_VALUES and step % 2 == 0 and -(-values // 2) + 3 * step // 2 <= SHORT_WORDS


def scratch_bytes(node: Node, source: Shape) -> int:
    """Scratch of one node: a convolution widens two windows to 16 bits; an LSTM its input and state, beside the state of its cells."""
    op = node.op
    if isinstance(op, Conv1d):
        return 0 if is_short(op, source) else 4 * align(op.kernel * source.channels)
    if isinstance(op, Lstm):
        return 2 * (align(source.channels) + align(op.units)) + align(2 * op.units)
    return 0


def distance_bytes(op: Conv1d, source: Shape, shape: Shape) -> int:
    """How far before its input the output of a convolution must start to overlap it.

    The windows of `group` positions are read before their outputs are written, so when the outputs before position n are
    written, all that is still to be read starts at window n: the bytes written by then may not pass it, for any n. The excess grows with
    n while windows start in the padding, and changes steadily from there on, so its largest value stands at one of three places.
    Short windows hardly occur but on the caller's buffer: for them no group is relied on.

    Of several modalities, each must keep this distance from its own input, and may not reach into that of the next. Both change
    steadily from one modality to the next, so the first and the last decide.
    """
    group = 1 if is_short(op, source) else 2
    left = same_padding(source.length, op.kernel, op.stride, op.dilation).left if op.kernel > 1 else 0
    last = (shape.length - 1) // group * group
    turn = min(left // op.stride // group * group, last)
    own = max(n * shape.channels - max(0, n * op.stride - left) * source.channels for n in (turn, min(turn + group, last), last))
    others = shape.modalities - 1
    if not others:
        return align(own)
    growth = modality_bytes(shape) - modality_bytes(source)  # of the distance that is left, from one modality to the next
    reach = shape.channels * shape.length - modality_bytes(source)
    return align(max(own, own + others * growth, reach, reach + (others - 1) * growth))


def writes_in_place(op: Op, source: Shape, shape: Shape) -> bool:
    """Whether an operator's output may start where an input starts.

    Filters go channel by channel: where a modality's output starts before its input, what is written must be of the same channel there.
    """
    if isinstance(op, DepthwiseConv1d):
        shift = modality_bytes(source) - modality_bytes(shape) if shape.modalities > 1 else 0
        return op.kernel <= IN_PLACE_KERNEL and op.dilation == 1 and shift % shape.channels == 0
    return isinstance(op, Add | AvgPool1d | MaxPool1d | GlobalAvgPool)


# Two buffers that live at the same time: the other one, and how many bytes after and before this one it starts at least.
_Link = tuple[int, int, int]


@dataclass(slots=True)
class _Buffers:
    """What is to be packed. Buffers are numbered in the order in which their lives begin.

    Attributes:
        tensors: buffer of each node's output, `ABSENT` where the caller owns it.
        scratch: buffer of each node's scratch, `ABSENT` for nodes that need none.
        sizes: bytes of each buffer; one that changes tensors never grows.
        links: of each buffer, to those that live at the same time.
        taken: node -> inputs whose place its output may take, for the nodes whose output takes one.
        bound_bytes: the most bytes alive at one node; no packing needs less.
    """

    tensors: list[int]
    scratch: list[int]
    sizes: list[int] = field(default_factory=list)
    links: list[list[_Link]] = field(default_factory=list)
    taken: dict[int, list[int]] = field(default_factory=dict)
    bound_bytes: int = 0

    def arena_bytes(self, starts: list[int]) -> int:
        """Bytes of the arena of buffers at `starts`."""
        return max((start + size for start, size in zip(starts, self.sizes, strict=True)), default=0)


def plan(graph: Graph) -> Plan:
    """Place every tensor of `graph`; see the module's head for the rule."""
    buffers = _buffers(graph, {})
    starts = _greedy(buffers)
    if buffers.arena_bytes(starts) > buffers.bound_bytes:
        buffers, starts = _Search(graph, buffers, starts).run()
    offsets, scratch = (tuple(ABSENT if i == ABSENT else starts[i] for i in places) for places in (buffers.tensors, buffers.scratch))
    return Plan(offsets, scratch, buffers.arena_bytes(starts))


def bound_bytes(graph: Graph) -> int:
    """The most bytes alive at one node, overlaps counted once: no arena of `graph` is smaller, and most need be no larger."""
    return _buffers(graph, {}).bound_bytes


def _buffers(graph: Graph, way: Mapping[int, int]) -> _Buffers:
    """The buffers of `graph`, where an output takes the place of the oldest input that it may, or of `way[node]` (`ABSENT`: of none)."""
    nodes = graph.nodes
    count = len(nodes)
    last_read = list(range(count))
    for index, node in enumerate(nodes):
        for read in node.inputs:
            last_read[read] = index
    made = _Buffers([ABSENT] * count, [ABSENT] * count)
    tensors, sizes, links = made.tensors, made.sizes, made.links
    alive: dict[int, int] = {}  # buffer -> bytes that it holds now

    def begin(size: int, behind: int = ABSENT, distance: int = 0) -> int:
        """A new buffer; `behind`, alone of those alive, need start only `distance` bytes after it."""
        buffer, own = len(sizes), []
        for other, held in alive.items():
            above = distance if other == behind else size
            own.append((other, above, held))
            links[other].append((buffer, held, above))
        sizes.append(size)
        links.append(own)
        alive[buffer] = size
        return buffer

    for index in range(1, count):
        node = nodes[index]
        op, source, size, shared = node.op, nodes[node.inputs[0]].shape, align(values_bytes(node.shape)), 0
        dying = [read for read in node.inputs if last_read[read] == index and tensors[read] != ABSENT]
        if index < count - 1:
            taken = way.get(index, min(dying)) if dying and writes_in_place(op, source, node.shape) else ABSENT
            if taken != ABSENT:
                made.taken[index] = dying
                tensors[index] = tensors[taken]
            elif dying and isinstance(op, Conv1d):
                behind, distance = tensors[dying[0]], distance_bytes(op, source, node.shape)
                shared = min(size - distance, alive[behind])
                tensors[index] = begin(size, behind, distance)
            else:
                tensors[index] = begin(size)
        if need := scratch_bytes(node, source):
            made.scratch[index] = begin(need)
        made.bound_bytes = max(made.bound_bytes, sum(alive.values()) - shared)
        alive.pop(made.scratch[index], None)
        for read in dying:
            alive.pop(tensors[read], None)
        if index < count - 1 and last_read[index] > index:
            alive[tensors[index]] = size
        else:
            alive.pop(tensors[index], None)
    return made


def _place(buffers: _Buffers, order: Iterable[int], starts: list[int]) -> None:
    """Put each buffer of `order` at the lowest start that those placed before leave free."""
    for buffer in order:
        barred = [(starts[other] - above, starts[other] + below) for other, above, below in buffers.links[buffer] if starts[other] >= 0]
        barred.sort()
        start = 0
        for low, high in barred:  # starts strictly between the two
            if start <= low:
                break
            start = max(start, high)
        starts[buffer] = start


def _greedy(buffers: _Buffers) -> list[int]:
    """The best of a few rounds: largest first, then again with the buffer that ended on top placed first."""
    sizes = buffers.sizes
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    best: list[int] = []
    for _ in range(GREEDY_ROUNDS):
        starts = [ABSENT] * len(sizes)
        _place(buffers, order, starts)
        arena = buffers.arena_bytes(starts)
        if not best or arena < buffers.arena_bytes(best):
            best = starts
        if arena == buffers.bound_bytes:
            break
        top = next(i for i in order if starts[i] + sizes[i] == arena)
        order.remove(top)
        order.insert(0, top)
    return best


class _Search:
    """Looks for a smaller arena than that of `buffers` at `starts`: other orders of buffers, other ways in which outputs take places.

    Buffers that do not fit a smaller arena never will unless one of them is broken up. So the ways tried next each undo one taking
    of a place among them; when no way is left, the arena is the smallest there is.
    """

    def __init__(self, graph: Graph, buffers: _Buffers, starts: list[int]) -> None:
        self._graph, self._buffers, self._starts = graph, buffers, starts
        self._arena_bytes, self._bound_bytes = buffers.arena_bytes(starts), buffers.bound_bytes
        self._steps = SEARCH_STEPS

    def run(self) -> tuple[_Buffers, list[int]]:
        """The best buffers and their starts."""
        ways: list[dict[int, int]] = [{}]
        for way in ways:
            self._steps -= STEPS_PER_WAY
            buffers = _buffers(self._graph, way)
            stuck = self._shrink(buffers)
            # Taking a place costs least at every node, so no way is below the bound of the first.
            if self._arena_bytes == self._bound_bytes or self._steps < 0:
                break
            for node, inputs in buffers.taken.items():
                if buffers.tensors[node] in stuck and node not in way:
                    others = [{**way, node: other} for other in (*inputs, ABSENT) if other != min(inputs)]
                    ways += [other for other in others if other not in ways]
        return self._buffers, self._starts

    def _shrink(self, buffers: _Buffers) -> list[int]:
        """Pack `buffers` below the best arena until some of them do not fit: those, or none when the bound is met."""
        while self._arena_bytes > self._bound_bytes:
            limit, starts = self._arena_bytes - ALIGNMENT_BYTES, [ABSENT] * len(buffers.sizes)
            easy, groups = _divide(buffers, limit)
            for group in groups:
                if not self._stack(buffers, dict.fromkeys(group, 0), limit, starts):
                    return group
            _place(buffers, reversed(easy), starts)
            self._buffers, self._starts, self._arena_bytes = buffers, starts, buffers.arena_bytes(starts)
        return []

    def _stack(self, buffers: _Buffers, floors: dict[int, int], limit: int, starts: list[int]) -> bool:
        """Whether the buffers in `floors` fit below `limit`, each no lower than its floor; if so, they have `starts`.

        Buffers are put down one upon the other. One that would leave room below for another is no better there than after it.
        """
        self._steps -= 1
        if self._steps < 0 or not _lift(buffers, floors, limit):
            return False
        lowest_end = min((floor + buffers.sizes[buffer] for buffer, floor in floors.items()), default=0)
        for buffer in sorted((b for b in floors if floors[b] < lowest_end), key=lambda b: (floors[b], -buffers.sizes[b])):
            start = floors[buffer]
            rest = {other: floor for other, floor in floors.items() if other != buffer}
            for other, above, _ in buffers.links[buffer]:
                if other in rest:
                    rest[other] = max(rest[other], start + above)
            if self._stack(buffers, rest, limit, starts):
                starts[buffer] = start
                return True
        return not floors


def _lift(buffers: _Buffers, floors: dict[int, int], limit: int) -> bool:
    """Raise floors to above what no longer fits above; whether all may still end below `limit`."""
    sizes = buffers.sizes
    for buffer, floor in floors.items():
        for other, above, below in buffers.links[buffer]:
            if other in floors and floor + above + sizes[other] > limit:
                floor = max(floor, floors[other] + below)
        floors[buffer] = floor
        if floor + sizes[buffer] > limit:
            return False
    return True


def _divide(buffers: _Buffers, limit: int) -> tuple[list[int], list[list[int]]]:
    """Buffers that find a place below `limit` wherever those after them in the list and the others are; the others, in linked groups."""
    links, room = buffers.links, [limit - size for size in buffers.sizes]
    for buffer, own in enumerate(links):  # starts barred by a link lie strictly between two multiples of the alignment
        room[buffer] -= sum(above + below - ALIGNMENT_BYTES for _, above, below in own)
    easy = [buffer for buffer, left in enumerate(room) if left >= 0]
    hard = {buffer for buffer, left in enumerate(room) if left < 0}
    for buffer in easy:
        for other, above, below in links[buffer]:
            room[other] += above + below - ALIGNMENT_BYTES
            if other in hard and room[other] >= 0:
                hard.remove(other)
                easy.append(other)
    groups = []
    while hard:
        group = [min(hard)]
        hard.difference_update(group)
        for buffer in group:
            near = sorted(hard.intersection(other for other, _, _ in links[buffer]))
            hard.difference_update(near)
            group += near
        groups.append(group)
    return easy, groups
