"""The C folder: what it declares, sizes that the cost model counts on, and text that no label can break."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import ExportError
from hwnas.export import c
from hwnas.export.packing import pack_conv, pack_depthwise, pack_node
from hwnas.firmware.build import build, build_host
from hwnas.firmware.machine import read_elf
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, node_biases
from hwnas.hardware import weights
from hwnas.memory import plan
from hwnas.quantize.qgraph import Quant, QuantGraph, QuantWeights


def sample() -> QuantGraph:
    """One node of every operator, with odd sizes; node 0 has zero point -3."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(6, 5, 2), builder.add(Input(3, 33)))
    x = builder.add(Add(), x, builder.add(DepthwiseConv1d(3), x))
    builder.add(Dense(5), builder.add(GlobalAvgPool(), builder.add(Conv1d(8), x)))
    graph = builder.build()
    rng = np.random.default_rng(0)
    constants = {}
    for index, node in enumerate(graph.nodes):
        op, channels, units = node.op, graph.in_shape(node).channels if index else 0, node_biases(node)
        shape: tuple[int, ...] = (units, channels)
        if isinstance(op, Conv1d):
            shape = (units, op.kernel, channels)
        elif isinstance(op, DepthwiseConv1d):
            shape = (op.kernel, units)
        if units:
            values = rng.integers(-127, 128, shape).astype(np.int8)
            bias, multiplier = (rng.integers(1, 1 << 20, units).astype(np.int32) for _ in range(2))
            constants[index] = QuantWeights(values, bias, np.ones(units), multiplier)
    quants = (Quant(0.1, -3), *[Quant(0.1, 5)] * (len(graph.nodes) - 1))
    return QuantGraph(graph, quants, constants, {3: (7, 9), 5: (11,)}, ('a"b\\', "é??/\n"))


def test_packed_convolution_is_laid_out_as_documented() -> None:
    rng = np.random.default_rng(1)
    k = QuantWeights(
        rng.integers(-127, 128, (5, 3, 3)).astype(np.int8),
        rng.integers(-1000, 1000, 5).astype(np.int32),
        np.ones(5),
        rng.integers(1, 1000, 5).astype(np.int32),
    )
    flat = k.weights.reshape(5, 9).astype(int)
    blocks = pack_conv(k, -3).reshape(2, -1)
    assert blocks.shape[1] * 4 == 32 + 4 * 12
    for o in range(8):
        block = blocks[o // 4]
        assert block[:4].view(np.int32)[o % 4] == (k.bias[o] + 3 * flat[o].sum() if o < 5 else 0)
        assert block[-4:][o % 4] == (k.multiplier[o] if o < 5 else 0)
        groups = block[4:-4].view(np.int8).reshape(3, 2, 2, 4)
        for tap in range(12):
            value = groups[tap // 4, tap % 2, o % 4 // 2, tap % 4 // 2 * 2 + o % 2]
            assert value == (flat[o, tap] if o < 5 and tap < 9 else 0)


def test_packed_depthwise_is_laid_out_as_documented() -> None:
    rng = np.random.default_rng(2)
    k = QuantWeights(
        rng.integers(-127, 128, (3, 6)).astype(np.int8),
        rng.integers(-1000, 1000, 6).astype(np.int32),
        np.ones(6),
        rng.integers(1, 1000, 6).astype(np.int32),
    )
    blocks = pack_depthwise(k, 100).reshape(2, -1)
    assert blocks.shape[1] * 4 == 32 + 8 * 3
    for channel in range(8):
        block, real = blocks[channel // 4], channel < 6
        assert block[:4].view(np.int32)[channel % 4] == (k.bias[channel] - 100 * k.weights[:, channel].astype(int).sum() if real else 0)
        assert block[-4:][channel % 4] == (k.multiplier[channel] if real else 0)
        taps = block[4:-4].view(np.int16).reshape(3, 4)
        np.testing.assert_array_equal(taps[:, [0, 2, 1, 3][channel % 4]], k.weights[:, channel] if real else 0)


def test_sizes_are_those_of_the_cost_model(tmp_path: Path) -> None:
    q = sample()
    c.write(q, plan(q.graph), tmp_path / "m", weights_hash="")
    build(tmp_path / "m", tmp_path / "m.elf")
    sizes = read_elf(tmp_path / "m.elf").sizes
    for index, node in enumerate(q.graph.nodes[1:], start=1):
        assert pack_node(q, index).packed.nbytes == weights.packed_bytes(node, q.graph.in_shape(node))
        assert sizes.get(f"packed_{index}", 0) == pack_node(q, index).packed.nbytes
        assert sizes[f"params_{index}"] == weights.params_bytes(node)
    assert sizes["layers"] == weights.LAYER_BYTES * (len(q.graph.nodes) - 1)
    total = sum(size for name, size in sizes.items() if name.startswith(("layers", "params_", "packed_")))
    assert total == weights.flash_bytes(q.graph)


def test_header_carries_the_interface(tmp_path: Path) -> None:
    q = sample()
    c.write(q, plan(q.graph), tmp_path, weights_hash="f00d")
    macros = dict(re.findall(r"#define HWNAS_MODEL_(\w+) (.*)", (tmp_path / "model.h").read_text()))
    assert macros["INPUT_BYTES"] == "99"
    assert macros["OUTPUT_BYTES"] == "5"
    assert macros["ARENA_BYTES"] == str(plan(q.graph).arena_bytes)
    assert macros["INPUT_ZERO_POINT"] == "(-3)"
    assert float(macros["INPUT_SCALE"].rstrip("f")) == 0.1
    assert macros["WEIGHTS_HASH"] == '"f00d"'
    assert macros["GRAPH_HASH"] == f'"{q.graph.hash}"'


def test_labels_survive_the_compiler(tmp_path: Path) -> None:
    q = sample()
    c.write(q, plan(q.graph), tmp_path, weights_hash="")
    with (tmp_path / "model.c").open("a") as file:
        file.write("const char *hwnas_labels(void);\nconst char *hwnas_labels(void) { return HWNAS_MODEL_LABELS; }\n")
    build_host(tmp_path, tmp_path / "model.so")
    assert ",".join(q.labels).encode() + b"\0" in (tmp_path / "model.so").read_bytes()


def test_same_student_same_bytes(tmp_path: Path) -> None:
    q = sample()
    for name in ("a", "b"):
        c.write(q, plan(q.graph), tmp_path / name, weights_hash="x")
        build(tmp_path / name, tmp_path / f"{name}.elf")
    assert (tmp_path / "a" / "model.c").read_bytes() == (tmp_path / "b" / "model.c").read_bytes()
    assert (tmp_path / "a.elf").read_bytes() == (tmp_path / "b.elf").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a.elf").read_bytes()


def test_a_plan_of_another_graph_is_refused(tmp_path: Path) -> None:
    q = sample()
    other = plan(Graph(q.graph.nodes[:4]))
    with pytest.raises(ExportError, match="plan"):
        c.write(q, other, tmp_path, weights_hash="")
    with pytest.raises(ExportError, match="plan"):
        c.write(q, replace(plan(q.graph), offsets=()), tmp_path, weights_hash="")
