"""Sums, joins, pooling and transposes: plain integers == int8 reference == portable C on this machine == the Cortex-M4 code, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import PAINT, CortexM4, Host, KernelCall, Sanitized
from plain_integers import node_output
from random_students import random_integers

from hwnas.export.packing import pack_node
from hwnas.graph import Add, AvgPool1d, Concat, Conv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Join, MaxPool1d, Op, Split
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph

KERNELS = ["hwnas_add", "hwnas_concat", "hwnas_avg_pool1d", "hwnas_max_pool1d", "hwnas_global_avg_pool", "hwnas_transpose"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(KERNELS, tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> CortexM4:
    return CortexM4(KERNELS, tmp_path_factory.mktemp("core"))


def graph_of(op: Op, channels: int, length: int, other_channels: int = 0) -> Graph:
    """A graph that ends in `op`; what it reads as second input is another node with a quantisation of its own."""
    builder = GraphBuilder()
    sources = [builder.add(Input(channels, length))]
    if isinstance(op, Add | Concat):
        sources.append(builder.add(Conv1d(other_channels or channels, relu=False), sources[0]))
    builder.add(op, *sources)
    return builder.build()


def call_of(q: QuantGraph, inputs: list[Int8], place: str = "apart") -> KernelCall:
    """The last node of `q` as its kernel is called."""
    last = len(q.graph.nodes) - 1
    node = pack_node(q, last, "none")
    aux = inputs[1].tobytes() if len(inputs) > 1 else b""
    return KernelCall(node.kernel, tuple(node.params.values()), node.packed, inputs[0].tobytes(), aux, q.graph.output_shape.elements, place)


def random_inputs(graph: Graph, rng: np.random.Generator) -> list[Int8]:
    """Inputs of the last node, at times only the two ends of int8."""
    shapes = [graph.nodes[i].shape for i in graph.nodes[-1].inputs]
    ends = rng.random() < 0.2
    return [
        (rng.choice([-128, 127], (s.length, s.channels)) if ends else rng.integers(-128, 128, (s.length, s.channels))).astype(np.int8)
        for s in shapes
    ]


def expected(q: QuantGraph, inputs: list[Int8]) -> bytes:
    """What the last node of `q` gives: Python integers, held against the reference."""
    last = len(q.graph.nodes) - 1
    out = reference.run_node(q, last, *(x[None] for x in inputs))[0]
    assert out.tolist() == node_output(q, last, *(x.tolist() for x in inputs))
    return out.tobytes()


def places(op: Op) -> list[str]:
    """Where the output may lie."""
    return {Add: ["apart", "source", "aux"], Concat: ["apart"]}.get(type(op), ["apart", "source"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[QuantGraph, list[Int8], str]:
    """A node with random constants and inputs, and where its output goes."""
    kernel, stride = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    op = draw(st.sampled_from([Add(), Concat(), GlobalAvgPool(), AvgPool1d(kernel, stride), MaxPool1d(kernel, stride)]))
    length = kernel + draw(st.integers(0, 20)) - (kernel - 1) * (not isinstance(op, AvgPool1d | MaxPool1d))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph = graph_of(op, draw(st.integers(1, 18)), length, draw(st.integers(1, 18)) if isinstance(op, Concat) else 0)
    q = (random_integers if draw(st.booleans()) else arbitrary)(graph, rng)
    return q, random_inputs(graph, rng), draw(st.sampled_from(places(op)))


@settings(max_examples=150)
@given(case=cases())
def test_kernels_agree(case: tuple[QuantGraph, list[Int8], str], host: Host, core: CortexM4) -> None:
    q, inputs, place = case
    call, want = call_of(q, inputs, place), expected(q, inputs)
    assert host.run(call) == want
    assert core.run(call) == want


COMMON = [
    (Add(), 16, 33, 0),
    (Add(), 1, 7, 0),
    (Add(), 3, 5, 0),
    (Concat(), 16, 21, 16),
    (Concat(), 4, 9, 12),
    (Concat(), 3, 9, 8),
    (AvgPool1d(2, 2), 16, 40, 0),
    (AvgPool1d(3, 2), 5, 11, 0),
    (AvgPool1d(300, 1), 4, 301, 0),
    (AvgPool1d(257, 2), 3, 300, 0),
    (MaxPool1d(2, 2), 16, 40, 0),
    (MaxPool1d(3, 1), 7, 12, 0),
    (GlobalAvgPool(), 32, 94, 0),
    (GlobalAvgPool(), 4, 1000, 0),
    (GlobalAvgPool(), 6, 50, 0),
]


@pytest.mark.parametrize(("op", "channels", "length", "other"), COMMON, ids=repr)
def test_common_shapes(op: Op, channels: int, length: int, other: int, host: Host, core: CortexM4) -> None:
    """Every place of the output, and inputs all at one end: sums in 16 bits must not pass them."""
    rng = np.random.default_rng(7)
    for place in places(op):
        q = arbitrary(graph_of(op, channels, length, other), rng)
        inputs = random_inputs(q.graph, rng)
        for chosen in (inputs, [np.full_like(x, -128) for x in inputs], [np.full_like(x, 127) for x in inputs]):
            call, want = call_of(q, chosen, place), expected(q, chosen)
            assert host.run(call) == want
            assert core.run(call) == want


@pytest.mark.parametrize("points", [(-128, 127, 0), (127, -128, 5), (0, 0, -128), (127, 127, 127), (-128, -128, -128)])
@pytest.mark.parametrize("multipliers", [(2**21 - 1, 2**21 - 1), (2**19, 2**19), (1, 2**20), (1_234_567, 765_432)])
def test_every_pair_of_values(points: tuple[int, int, int], multipliers: tuple[int, int], host: Host, core: CortexM4) -> None:
    """Sums of all 65,536 pairs, and joins of all values, with zero points and multipliers at their ends."""
    every = np.arange(-128, 128, dtype=np.int8)
    inputs = [np.repeat(every, 256)[None], np.tile(every, 256)[None]]
    for op, values in ((Add(), inputs), (Concat(), [every[None], every[None, ::-1].copy()])):
        graph = graph_of(op, values[0].size, 1)
        quants = tuple(Quant(1.0, p) for p in points)
        q = QuantGraph(graph, quants, {}, {2: multipliers})
        want = reference.run_node(q, 2, *(x[None] for x in values))[0]
        centred = [x.astype(np.int64) - p for x, p in zip(values, points, strict=False)]
        scaled = [x * m for x, m in zip(centred, multipliers, strict=True)]
        total = sum(scaled) if isinstance(op, Add) else np.concatenate(scaled, axis=1)
        assert np.array_equal(want, np.clip(points[2] + (total + 2**19 >> 20), -128, 127))
        assert host.run(call_of(q, values)) == want.tobytes()
        if isinstance(op, Concat) or points[0] == -128:  # watching 65,536 sums takes a while
            assert core.run(call_of(q, values)) == want.tobytes()


def transpose(rng: np.random.Generator, rows: int, columns: int, block: int, in_gap: int, out_gap: int) -> tuple[KernelCall, Int8]:
    """A call and its output (columns, out_pitch), the gaps between rows included as zeros, but for the one behind the last row."""
    source = rng.integers(-128, 128, (rows, columns * block + in_gap)).astype(np.int8)
    want = np.zeros((columns, rows * block + out_gap), np.int8)
    want[:, : rows * block] = source[:, : columns * block].reshape(rows, columns, block).transpose(1, 0, 2).reshape(columns, -1)
    params = (rows, columns, block, source.shape[1], want.shape[1])
    content = source.tobytes()[: source.size - in_gap]
    return KernelCall("hwnas_transpose", params, np.empty(0, np.uint32), content, b"", want.size - out_gap), want


@settings(max_examples=150)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 1, 2, 3, 4, 5, 8, 12, 16, 17])),
    gaps=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    seed=st.integers(0, 2**32 - 1),
)
def test_transposes_agree_and_leave_gaps_alone(
    shape: tuple[int, int, int], gaps: tuple[int, int], seed: int, host: Host, core: CortexM4
) -> None:
    call, want = transpose(np.random.default_rng(seed), *shape, *gaps)
    assert host.run(call) == want.tobytes()[: call.out_bytes]
    found = np.frombuffer(core.run(call) + bytes([PAINT] * gaps[1]), np.int8).reshape(want.shape)
    width = shape[0] * shape[2]
    assert (found[:, :width] == want[:, :width]).all() and (found[:, width:] == PAINT).all()


@pytest.mark.parametrize("shape", [(5, 3), (256, 4), (7, 2)])
def test_split_and_join_undo_each_other(shape: tuple[int, int]) -> None:
    length, channels = shape
    builder = GraphBuilder()
    x = builder.add(Conv1d(channels), builder.add(Input(channels, length)))
    builder.add(Join(), builder.add(Split(), x))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    x_in = np.random.default_rng(1).integers(-128, 128, (length, channels)).astype(np.int8)
    tensors = reference.run_all(q, x_in[None])
    assert (tensors[3] == tensors[1]).all() and q.quants[1] == q.quants[2] == q.quants[3]
    assert tensors[2][0].tolist() == node_output(q, 2, tensors[1][0].tolist())
    assert tensors[3][0].tolist() == node_output(q, 3, tensors[2][0].tolist())


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    if not Sanitized.available(tmp_path):
        pytest.skip("no gcc with sanitizers")
    program = Sanitized(KERNELS, tmp_path)
    rng = np.random.default_rng(1)
    calls, wants = [], []
    for op, channels, length, other in COMMON:
        for place in places(op):
            q = random_integers(graph_of(op, channels, length, other), rng)
            inputs = random_inputs(q.graph, rng)
            calls.append(call_of(q, inputs, place))
            wants.append(expected(q, inputs))
    for shape in [(1, 1, 1), (4, 9, 1), (7, 3, 1), (4, 6, 8), (3, 5, 12), (5, 4, 3)]:
        for gap in (0, 3, 4):
            call, want = transpose(rng, *shape, gap, gap)
            calls.append(call)
            wants.append(want.tobytes()[: call.out_bytes])
    assert program.run(calls) == wants
