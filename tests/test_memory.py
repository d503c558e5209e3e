"""The arena plan: nothing that is read later is overwritten, and no smaller arena would do where that can be proved.

`replay` runs a plan byte by byte in the order in which the kernels read and write; `smallest_arena` tries every place of every tensor.
Both know the rules of overlapping from the kernels' contract, not from the planner.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas import families, memory, space
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Node,
    Op,
    Shape,
    Split,
    same_length,
    same_padding,
)
from hwnas.memory import ABSENT, ALIGNMENT_BYTES, Plan, align

SPACE = space.read("mobilenet1d")
Event = tuple[list[int], list[int]]  # byte indices of the first input that are read, then of the output that are written


def random_graph(seed: int, length: int) -> Graph:
    generator = np.random.default_rng(seed)
    parameters = {name: values[generator.integers(len(values))] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(parameters), Shape(1, length), 6)


@st.composite
def graphs(draw: st.DrawFn, nodes: int = 12, length: int = 24, channels: int = 9) -> Graph:
    """Any graph: every operator, reading any tensor of a fitting shape, so that tensors live long and are read again."""
    builder = GraphBuilder()
    shapes = [Shape(draw(st.integers(1, 3)), draw(st.integers(1, length)))]
    builder.add(Input(*shapes[0][:2]))
    width, kernel, stride, dilation = st.integers(1, channels), st.integers(1, 11), st.integers(1, 4), st.sampled_from([1, 1, 2, 3])
    for _ in range(draw(st.integers(1, nodes))):
        recent = draw(st.booleans())
        first = len(shapes) - 1 if recent else draw(st.integers(0, len(shapes) - 1))
        source = shapes[first]
        window = st.integers(1, min(4, source.length))
        like = [i for i, shape in enumerate(shapes) if shape == source]
        as_long = [i for i, shape in enumerate(shapes) if shape.length == source.length and shape.modalities == 1]
        choices: list[st.SearchStrategy[tuple[Op, int]]] = [
            st.builds(lambda w, k, s, d: (Conv1d(w, k, s, dilation=d), -1), width, kernel, stride, dilation),
            st.builds(lambda w: (Conv1d(w), -1), width),
            st.builds(lambda k, s, d: (DepthwiseConv1d(k, s, dilation=d), -1), kernel, stride, dilation),
            st.builds(lambda other: (Add(), other), st.sampled_from(like)),
            st.builds(lambda cls, k, s: (cls(k, s), -1), st.sampled_from([AvgPool1d, MaxPool1d]), window, stride),
        ]
        if source.modalities > 1:
            choices.append(st.just((Join(), -1)))
        else:
            choices += [
                st.builds(lambda other: (Concat(), other), st.sampled_from(as_long)),
                st.builds(lambda w, last: (Lstm(w, last), -1), width, st.booleans()),
                st.just((GlobalAvgPool(), -1)),
            ]
        if source.modalities == 1 and 1 < source.channels <= 4:
            choices.append(st.just((Split(), -1)))
        if source.modalities == source.length == 1:
            choices.append(st.builds(lambda w: (Dense(w), -1), width))
        op, second = draw(st.one_of(choices))
        order = draw(st.permutations([first, second])) if second >= 0 else [first]
        shapes.append(builder.shape(builder.add(op, *order)))
    if shapes[-1].modalities > 1:
        builder.add(Join(), len(shapes) - 1)
    return builder.build()


def span(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def held(shape: Shape) -> list[int]:
    """Bytes of a tensor: modalities one after the other, each on a word."""
    size = shape.channels * shape.length
    return [byte for m in range(shape.modalities) for byte in span(m * align(size), size)]


def convolution_events(op: Conv1d, source: Shape, shape: Shape) -> Iterator[Event]:
    """Two windows are read whole, then their outputs are written; of short ones perhaps only one."""
    group = 1 if memory.is_short(op, source) else 2
    left = same_padding(source.length, op.kernel, op.stride, op.dilation).left
    for first in range(0, shape.length, group):
        positions = range(first, min(first + group, shape.length))
        samples = {n * op.stride - left + k * op.dilation for n in positions for k in range(op.kernel)}
        reads = [byte for i in sorted(samples) if 0 <= i < source.length for byte in span(i * source.channels, source.channels)]
        yield reads, span(first * shape.channels, len(positions) * shape.channels)


def depthwise_events(op: DepthwiseConv1d, source: Shape, shape: Shape) -> Iterator[Event]:
    """Channel by channel; each sample is read once, when the first window needs it."""
    left = same_padding(source.length, op.kernel, op.stride).left
    for channel in range(source.channels):
        unread = 0
        for n in range(shape.length):
            end = max(unread, min(n * op.stride - left + op.kernel, source.length))
            yield [i * source.channels + channel for i in range(unread, end)], [n * shape.channels + channel]
            unread = end


def events(node: Node, source: Shape) -> Iterator[Event]:
    """What the kernel of a node reads of its first input, and when it writes: modality by modality, but for sums and transposes."""
    op, shape = node.op, node.shape
    if isinstance(op, Add):
        for i in held(shape):
            yield [i], [i]
    elif isinstance(op, Split | Join):
        yield [], held(shape)
        yield held(source), []
    else:
        steps = align(source.channels * source.length), align(shape.channels * shape.length)
        for m in range(source.modalities):
            for reads, writes in call_events(op, source._replace(modalities=1), shape._replace(modalities=1)):
                yield [m * steps[0] + i for i in reads], [m * steps[1] + i for i in writes]


def call_events(op: Op, source: Shape, shape: Shape) -> Iterator[Event]:
    """The same of one call."""
    if isinstance(op, Conv1d):
        yield from convolution_events(op, source, shape)
    elif isinstance(op, DepthwiseConv1d) and op.kernel <= 9 and op.dilation == 1:
        yield from depthwise_events(op, source, shape)
    elif isinstance(op, AvgPool1d | MaxPool1d):
        for n in range(shape.length):
            yield span(n * op.stride * source.channels, op.kernel * source.channels), span(n * shape.channels, shape.channels)
    elif isinstance(op, GlobalAvgPool):
        for channel in range(source.channels):
            yield list(range(channel, source.elements, source.channels)), [channel]
    else:  # no order is promised: as if everything was written first
        yield [], span(0, shape.elements)
        yield span(0, source.elements), []


def replay(graph: Graph, plan: Plan) -> None:
    """Run the plan on an arena whose bytes know which byte of which tensor they hold; every read must find what it expects."""
    arena = np.full((plan.arena_bytes, 2), -1)

    def check(tensor: int, indices: list[int]) -> None:
        if (base := plan.offsets[tensor]) != ABSENT and indices:
            held = arena[base + np.array(indices)]
            assert (held[:, 0] == tensor).all() and (held[:, 1] == indices).all(), f"tensor {tensor} is overwritten before it is read"

    def put(owner: int, base: int, indices: list[int]) -> None:
        if base != ABSENT and indices:
            arena[base + np.array(indices)] = [[owner, i] for i in indices]

    for index, node in enumerate(graph.nodes):
        if index == 0:
            continue
        source = graph.in_shape(node)
        need, scratch = memory.scratch_bytes(node, source), plan.scratch[index]
        for base, size in ((scratch, need), (plan.offsets[index], held(node.shape)[-1] + 1)):
            assert base == ABSENT or (base % ALIGNMENT_BYTES == 0 and base >= 0 and base + size <= plan.arena_bytes)
        assert (scratch == ABSENT) == (need == 0)
        put(-2, scratch, span(0, need))
        for reads, writes in events(node, source):
            for tensor in {*node.inputs} if isinstance(node.op, Add) else {node.inputs[0]}:
                check(tensor, reads)
            put(index, plan.offsets[index], writes)
            if need:
                assert (arena[scratch : scratch + need, 0] == -2).all(), f"node {index} overwrites its scratch"
        for tensor in node.inputs[1:] if not isinstance(node.op, Add) else ():
            check(tensor, held(graph.nodes[tensor].shape))


def smallest_arena(graph: Graph, most: int) -> int:
    """The least arena below `most` bytes, or `most`: every place of every tensor, node by node."""
    limit = most
    while limit > 0 and _fits(graph, limit - ALIGNMENT_BYTES):
        limit -= ALIGNMENT_BYTES
    return limit


def _fits(graph: Graph, arena: int) -> bool:
    nodes, count = graph.nodes, len(graph.nodes)
    last_read = {i: max([j for j in range(count) if i in nodes[j].inputs], default=i) for i in range(count)}
    states: set[tuple[tuple[int, int], ...]] = {()}  # places of the tensors alive: (tensor, offset)
    for index in range(1, count):
        node, source = nodes[index], graph.in_shape(nodes[index])
        size, need = align(held(node.shape)[-1] + 1), memory.scratch_bytes(node, source)
        outputs = range(0, arena - size + 1, ALIGNMENT_BYTES) if index < count - 1 else [ABSENT]
        following = set()
        for state, out in product(states, outputs):
            taken = []
            for tensor, at in state:
                end = at + align(held(nodes[tensor].shape)[-1] + 1)
                apart = out == ABSENT or out + size <= at or end <= out
                taken.append((at, end))
                if not apart and not (last_read[tensor] == index and tensor in node.inputs and _may_overlap(node, source, out - at)):
                    break
            else:
                taken += [(out, out + size)] * (out != ABSENT)
                scratch = range(0, arena - need + 1, ALIGNMENT_BYTES)
                if need and not any(all(at + need <= low or high <= at for low, high in taken) for at in scratch):
                    continue
                places = (*state, (index, out)) if out != ABSENT else state
                following.add(tuple((tensor, at) for tensor, at in places if last_read[tensor] > index))
        states = following
    return bool(states)


def _may_overlap(node: Node, source: Shape, after: int) -> bool:
    """Whether the output may start `after` bytes after the start of an input that it overlaps, and that nothing else reads."""
    op = node.op
    if isinstance(op, Conv1d):
        return -after >= memory.distance_bytes(op, source, node.shape)
    return after == 0 and memory.writes_in_place(op, source, node.shape)


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_candidates_never_read_what_is_overwritten(seed: int, length: int) -> None:
    graph = random_graph(seed, length)
    replay(graph, memory.plan(graph))


@given(graphs())
def test_graphs_of_all_operators_never_read_what_is_overwritten(graph: Graph) -> None:
    plan = memory.plan(graph)
    replay(graph, plan)
    assert plan.arena_bytes >= memory.bound_bytes(graph)
    assert plan.offsets[0] == plan.offsets[-1] == ABSENT


@given(graphs(nodes=7, length=8, channels=4))
def test_small_arenas_are_the_smallest_there_are(graph: Graph) -> None:
    arena = memory.plan(graph).arena_bytes
    assert smallest_arena(graph, arena) == arena


def chain(seed: int) -> Graph:
    """A small network of bottlenecks whose tensors compete for places: hard to pack for its size."""
    generator = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(generator.choice(values))

    builder = GraphBuilder()
    x = builder.add(Conv1d(pick(1, 2, 3, 4), 3, 4), builder.add(Input(1, 4 * pick(6, 8, 10, 12, 14))))
    for _ in range(pick(1, 2, 3)):
        before = builder.shape(x)
        y = builder.add(Conv1d(before.channels * pick(1, 2, 3)), x)
        y = builder.add(DepthwiseConv1d(pick(3, 5), pick(1, 1, 2, 4)), y)
        y = builder.add(Conv1d(pick(1, 2, 3, 4)), y)
        x = builder.add(Add(), x, y) if builder.shape(y) == before else y
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    return builder.build()


def test_small_chains_are_packed_best_and_not_by_the_first_rule_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chains = [chain(seed) for seed in range(250)]
    best = [memory.plan(graph).arena_bytes for graph in chains]
    assert [smallest_arena(graph, arena) for graph, arena in zip(chains, best, strict=True)] == best
    monkeypatch.setattr(memory, "SEARCH_STEPS", 0)
    unsearched = [memory.plan(graph).arena_bytes for graph in chains]
    assert all(arena <= greedy for arena, greedy in zip(best, unsearched, strict=True))
    assert sum(arena < greedy for arena, greedy in zip(best, unsearched, strict=True)) >= 5


def _clobbers(node: Node, source: Shape, after: int) -> bool:
    """Whether an output that starts `after` bytes after the start of its input overwrites something still to be read."""
    steps = list(events(node, source))
    last_read = {byte: step for step, (reads, _) in enumerate(steps) for byte in reads}
    return any(last_read.get(after + byte, -1) > step for step, (_, writes) in enumerate(steps) for byte in writes)


@settings(max_examples=300)
@given(
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(1, 24),
    st.integers(1, 15),
    st.integers(1, 5),
    st.sampled_from([1, 1, 1, 2, 3, 5]),
    st.sampled_from([1, 1, 2, 3, 5]),
)
def test_distance_of_convolutions_is_safe_and_exact(
    channels: int, length: int, width: int, kernel: int, stride: int, dilation: int, modalities: int
) -> None:
    op, source = Conv1d(width, kernel, stride, dilation=dilation), Shape(channels, length, modalities)
    shape = Shape(width, same_length(length, stride), modalities)
    node = Node(op, (0,), shape)
    distance = memory.distance_bytes(op, source, shape)
    assert distance % ALIGNMENT_BYTES == 0 and 0 <= distance <= align(held(shape)[-1] + 1)
    assert not any(_clobbers(node, source, -further) for further in (distance, distance + 4, 2 * distance + 8))
    # A dilated window may step over the samples that bound the distance.
    if distance and dilation == 1:
        assert _clobbers(node, source, ALIGNMENT_BYTES - distance)


@settings(max_examples=200)
@given(
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([DepthwiseConv1d, MaxPool1d]),
)
def test_modalities_in_place_overwrite_nothing_that_is_still_to_be_read(
    channels: int, length: int, kernel: int, stride: int, modalities: int, kind: type[DepthwiseConv1d | MaxPool1d]
) -> None:
    source, op = Shape(channels, length, modalities), kind(min(kernel, length), stride)
    out = same_length(length, stride) if isinstance(op, DepthwiseConv1d) else (length - op.kernel) // stride + 1
    shape = Shape(channels, out, modalities)
    if memory.writes_in_place(op, source, shape):
        assert not _clobbers(Node(op, (0,), shape), source, 0)
    else:
        # Only filters that cut odd channel counts short: what a modality writes lies among other channels of its own input.
        assert isinstance(op, DepthwiseConv1d) and modalities > 1 and stride > 1 and channels % 4


def bottleneck(builder: GraphBuilder, x: int, inner: int, kernel: int) -> int:
    x_channels = builder.shape(x).channels
    expanded = builder.add(Conv1d(inner), x)
    return builder.add(Conv1d(x_channels, relu=False), builder.add(DepthwiseConv1d(kernel), expanded))


@pytest.mark.parametrize("residual", [False, True])
def test_closed_form_of_a_bottleneck(residual: bool) -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 4), builder.add(Input(1, 400)))
    y = bottleneck(builder, x, 24, 5)
    z = builder.add(Add(), x, y) if residual else y
    builder.add(Dense(2), builder.add(GlobalAvgPool(), z))
    plan = memory.plan(builder.build())
    # Filters work in place. The projection writes two positions before the input that it frees, its scratch holds two windows of 24.
    projection = 24 * 100 + 4 * 24
    assert memory.distance_bytes(Conv1d(8), Shape(24, 100), Shape(8, 100)) == 0
    if residual:
        # The block's input lives until the sum, which takes its place.
        assert plan.arena_bytes == 8 * 100 + projection
        assert plan.offsets[z] in (plan.offsets[x], plan.offsets[y])
    else:
        # The expansion ends behind its input: two positions are written when the third is read.
        assert memory.distance_bytes(Conv1d(24), Shape(8, 100), Shape(24, 100)) == 98 * (24 - 8)
        assert plan.arena_bytes == max(projection, 98 * 16 + 800 + 4 * 8)


def test_pointwise_chain_needs_little_more_than_its_largest_tensor() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(16, 7, 4), builder.add(Input(1, 400)))
    y = builder.add(Conv1d(96), x)
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Conv1d(32), y)))
    assert memory.plan(builder.build()).arena_bytes == 9600 + 4 * 96


def test_a_tensor_that_is_read_again_keeps_its_place() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8), builder.add(Input(1, 100)))
    y = builder.add(DepthwiseConv1d(3), x)
    z = builder.add(Concat(), x, y)
    builder.add(Dense(2), builder.add(GlobalAvgPool(), z))
    assert memory.plan(builder.build()).arena_bytes == 4 * 800  # x, y, and both side by side


@pytest.mark.parametrize(
    ("op", "expected"), [(DepthwiseConv1d(9), 800), (DepthwiseConv1d(11), 1600), (DepthwiseConv1d(3, dilation=2), 1600)]
)
def test_long_and_dilated_filters_write_beside_their_input(op: Op, expected: int) -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 2), builder.add(Input(1, 200)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(op, x)))
    assert memory.plan(builder.build()).arena_bytes == expected


@pytest.mark.parametrize(
    ("op", "source", "expected"),
    [
        (Conv1d(8, 5), Shape(6, 50), 4 * 32),
        (Conv1d(8, 7, 2), Shape(1, 50), 0),  # short: windows stay in registers
        (DepthwiseConv1d(5), Shape(6, 50), 0),
        (Dense(4), Shape(6, 1), 0),
        (Lstm(10), Shape(6, 50), 2 * (8 + 12) + 20),
        (MaxPool1d(2, 2), Shape(6, 50), 0),
        (GlobalAvgPool(), Shape(6, 50), 0),
    ],
)
def test_scratch(op: Op, source: Shape, expected: int) -> None:
    assert memory.scratch_bytes(Node(op, (0,), Shape(4, 4)), source) == expected


def test_plans_depend_on_the_graph_alone(root: Path) -> None:
    """Not on earlier calls, nor on how a process seeds its hashes."""
    code = "import hashlib; from tests.test_memory import plans; print(hashlib.sha256(repr(plans()).encode()).hexdigest())"
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    texts = [
        subprocess.run([sys.executable, "-c", code], env=e, cwd=root, capture_output=True, text=True, check=True) for e in environments
    ]
    assert texts[0].stdout == texts[1].stdout
    assert plans() == plans()


def plans() -> list[Plan]:
    return [memory.plan(random_graph(seed, 1000)) for seed in range(40)]
