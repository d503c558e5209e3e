"""Each kernel: a plain-integer oracle == the int8 reference == portable C on this machine == the Cortex-M4 program, bit by bit."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.export import c
from hwnas.export.packing import pack_node
from hwnas.firmware.build import build_host
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Op, same_padding
from hwnas.memory import plan, scratch_bytes
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph

GUARD = 32
Quantized = Callable[[Graph, np.random.Generator], QuantGraph]


def graph_of(op: Op, channels: int, length: int) -> Graph:
    builder = GraphBuilder()
    first = builder.add(Input(channels, length))
    builder.add(op, *([first, first] if isinstance(op, Add) else [first]))
    return builder.build()


def oracle(q: QuantGraph, inputs: Int8) -> Int8:
    """Node 1 of `q` in Python integers, straight from the rules at the head of `qgraph`."""
    node, point = q.graph.nodes[1], q.quants[1].zero_point
    op, in_point, source = node.op, q.quants[0].zero_point, q.graph.in_shape(q.graph.nodes[1])
    x = inputs[0].astype(object) - in_point
    clamp = np.vectorize(lambda v: max(q.clamp_low(1), min(127, v)), otypes=[object])
    if isinstance(op, Add):
        m_a, m_b = q.multipliers[1]
        other = inputs[1].astype(object) - in_point
        return clamp(point + ((x * m_a + other * m_b + 2**19) >> 20)).astype(np.int8)
    if isinstance(op, GlobalAvgPool):
        acc, multiplier = x.sum(0, keepdims=True), np.array(q.multipliers[1][:1], object)
    else:
        k = q.constants[1]
        weights, multiplier = k.weights.astype(object), k.multiplier.astype(object)
        kernel, stride = (op.kernel, op.stride) if not isinstance(op, Dense) else (1, 1)
        left = same_padding(source.length, kernel, stride).left
        acc = np.tile(k.bias.astype(object), (node.shape.length, 1))
        for out in range(node.shape.length):
            for tap in range(kernel):
                at = out * stride - left + tap
                if 0 <= at < source.length:
                    row = x[at]
                    if isinstance(op, Conv1d):
                        acc[out] += weights[:, tap] @ row
                    else:
                        acc[out] += weights[tap] * row if isinstance(op, DepthwiseConv1d) else weights @ row
    return clamp(point + ((acc * multiplier + 2**31) >> 32)).astype(np.int8)


Host = Callable[[QuantGraph, Int8], Int8]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, quantized: Quantized) -> Host:
    """Runs node 1 by the portable kernels of a shared library, and checks that nothing beside the output was written."""
    place = tmp_path_factory.mktemp("host")
    graph = graph_of(GlobalAvgPool(), 4, 4)
    c.write(quantized(graph, np.random.default_rng(0)), plan(graph), place, weights_hash="")
    build_host(place, place / "kernels.so")
    library = ctypes.CDLL(str(place / "kernels.so"))

    def run(q: QuantGraph, inputs: Int8) -> Int8:
        node, packed = q.graph.nodes[1], pack_node(q, 1)
        words = packed.packed
        head = struct.pack("<Q", words.ctypes.data) if words.size else b""
        params = ctypes.create_string_buffer(head + struct.pack(f"<{len(packed.params)}i", *packed.params.values()))
        out = np.full(node.shape.elements + 2 * GUARD, 0x55, np.int8)
        need = scratch_bytes(node, q.graph.in_shape(node))
        scratch = np.full(need + 2 * GUARD, 0x55, np.int8)
        first, second = (np.ascontiguousarray(x) for x in (inputs[0], inputs[-1]))
        aux = second.ctypes.data if len(inputs) > 1 else scratch.ctypes.data + GUARD
        function = getattr(library, packed.kernel)
        function.restype = None
        function(params, ctypes.c_void_p(first.ctypes.data), ctypes.c_void_p(out.ctypes.data + GUARD), ctypes.c_void_p(aux))
        for buffer in (out, scratch):
            assert (buffer[:GUARD] == 0x55).all() and (buffer[-GUARD:] == 0x55).all()
        return out[GUARD:-GUARD].reshape(node.shape.length, node.shape.channels)

    return run


def check(q: QuantGraph, rng: np.random.Generator, host: Host, profiler: Profiler) -> Int8:
    graph = q.graph
    count, shape = len(graph.nodes[1].inputs), graph.input_shape
    inputs = rng.integers(-128, 128, (count, shape.length, shape.channels)).astype(np.int8)
    if rng.random() < 0.2:
        inputs[:] = rng.choice([-128, 127], inputs.shape)
    expected = oracle(q, inputs)
    np.testing.assert_array_equal(reference.run_node(q, 1, *(x[None] for x in inputs))[0], expected)
    np.testing.assert_array_equal(host(q, inputs), expected)
    output, cycles, stack = profiler.run(q, 1, inputs)
    np.testing.assert_array_equal(output, expected)
    assert cycles > graph.macs / 4 and 0 < stack < 512
    return expected


OPS = st.one_of(
    st.builds(Conv1d, st.integers(1, 13), st.integers(1, 9), st.integers(1, 4), st.booleans()),
    st.builds(Conv1d, st.sampled_from([4, 8, 16]), st.just(1), st.just(1), st.booleans()),
    st.builds(DepthwiseConv1d, st.integers(1, 11), st.integers(1, 4), st.booleans()),
    st.just(Add()),
    st.just(GlobalAvgPool()),
    st.builds(Dense, st.integers(1, 9)),
)


@settings(max_examples=120)
@given(op=OPS, channels=st.integers(1, 17), length=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_kernels_agree(op: Op, channels: int, length: int, seed: int, host: Host, profiler: Profiler, quantized: Quantized) -> None:
    rng = np.random.default_rng(seed)
    check(quantized(graph_of(op, channels, 1 if isinstance(op, Dense) else length), rng), rng, host, profiler)


def common_ops() -> Iterator[tuple[Op, int, int]]:
    yield Conv1d(16, 7, 2), 1, 200
    yield Conv1d(32), 16, 37
    yield Conv1d(24, relu=False), 32, 24
    yield Conv1d(12, 5, 3), 8, 50
    for kernel in (3, 5, 7, 9):
        yield DepthwiseConv1d(kernel, 1), 16, 40
        yield DepthwiseConv1d(kernel, 2, relu=False), 12, 41
    yield Add(), 16, 33
    yield GlobalAvgPool(), 32, 94
    yield Dense(6), 64, 1


@pytest.mark.parametrize(("op", "channels", "length"), list(common_ops()), ids=repr)
def test_common_shapes_reach_both_ends(op: Op, channels: int, length: int, host: Host, profiler: Profiler, quantized: Quantized) -> None:
    rng = np.random.default_rng(7)
    values = np.concatenate([check(quantized(graph_of(op, channels, length), rng), rng, host, profiler).ravel() for _ in range(4)])
    assert values.max() == 127 and len(np.unique(values)) > 8
