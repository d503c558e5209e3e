"""The C folder: what it declares, sizes that the cost model counts on, and text that no label can break."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import ExportError
from hwnas.export import c
from hwnas.export.packing import pack_node
from hwnas.firmware.build import build, build_host
from hwnas.firmware.cores import core
from hwnas.firmware.machine import read_elf
from hwnas.graph import Add, Concat, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Lstm
from hwnas.hardware import weights
from hwnas.hardware.deployment import Deployment, uniform
from hwnas.hardware.ops import Layout
from hwnas.hardware.profile import read
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import QuantGraph

CORE, MEMORY = core("cortex-m4"), read("cortex-m4-192k").memory


def sample() -> QuantGraph:
    """Every kind of packed constants, with odd sizes and labels that are hard to quote."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(6, 5, 2), builder.add(Input(3, 33)))
    x = builder.add(Add(), x, builder.add(DepthwiseConv1d(3), x))
    x = builder.add(Concat(), x, builder.add(Lstm(3), x))
    builder.add(Dense(5), builder.add(GlobalAvgPool(), builder.add(Conv1d(8), x)))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    return replace(q, labels=('a"b\\', "é??/\n"))


def write(q: QuantGraph, place: Path, layout: Layout = "int8", weights_hash: str = "") -> Deployment:
    deployment = uniform(q.graph, layout)
    c.write(q, deployment, place, weights_hash=weights_hash)
    return deployment


@pytest.mark.parametrize("layout", ["int8", "int16"])
def test_sizes_are_those_of_the_cost_model(layout: Layout, tmp_path: Path) -> None:
    q = sample()
    deployment = write(q, tmp_path / "m", layout)
    build(tmp_path / "m", tmp_path / "m.elf", CORE, MEMORY)
    sizes = read_elf(tmp_path / "m.elf", CORE).sizes
    for index, node in enumerate(q.graph.nodes[1:], start=1):
        packed = pack_node(q, index, deployment.weights[index])
        assert packed.packed.nbytes == weights.packed_bytes(node.op, q.graph.in_shape(node), deployment.weights[index])
        assert sizes.get(f"packed_{index}", 0) == packed.packed.nbytes
        assert sizes[f"params_{index}"] == weights.params_bytes(node.op)
    assert sizes["layers"] == weights.layer_bytes() * (len(q.graph.nodes) - 1)
    total = sum(size for name, size in sizes.items() if name.startswith(("layers", "params_", "packed_")))
    assert total == weights.flash_bytes(q.graph, deployment.weights)


def test_only_the_kernels_in_use_are_copied(tmp_path: Path) -> None:
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Input(4, 8))))
    write(arbitrary(builder.build(), np.random.default_rng(0)), tmp_path)
    assert sorted(p.name for p in (tmp_path / "kernels").iterdir()) == ["dense_int8.c", "global_avg_pool.c", "run.c"]
    assert not (tmp_path / "depthwise.c").exists()


def test_a_layout_that_an_operator_lacks_is_refused() -> None:
    q = sample()
    with pytest.raises(ExportError, match=r"node 2 \(depthwise_conv1d\): no layout 'int8'; it has int16"):
        pack_node(q, 2, "int8")


def test_header_carries_the_interface(tmp_path: Path) -> None:
    q = sample()
    deployment = write(q, tmp_path, weights_hash="f00d")
    macros = dict(re.findall(r"#define HWNAS_MODEL_(\w+) (.*)", (tmp_path / "model.h").read_text()))
    assert macros["INPUT_BYTES"] == "99"
    assert macros["OUTPUT_BYTES"] == "5"
    assert macros["ARENA_BYTES"] == str(deployment.plan.arena_bytes)
    assert macros["INPUT_ZERO_POINT"] == f"({q.input.zero_point})"
    assert float(macros["INPUT_SCALE"].rstrip("f")) == q.input.scale
    assert macros["WEIGHTS_HASH"] == '"f00d"'
    assert macros["GRAPH_HASH"] == f'"{q.graph.hash}"'


def test_labels_survive_the_compiler(tmp_path: Path) -> None:
    q = sample()
    write(q, tmp_path)
    with (tmp_path / "model.c").open("a") as file:
        file.write("const char *hwnas_labels(void);\nconst char *hwnas_labels(void) { return HWNAS_MODEL_LABELS; }\n")
    build_host(tmp_path, tmp_path / "model.so")
    assert ",".join(q.labels).encode() + b"\0" in (tmp_path / "model.so").read_bytes()


def test_same_student_same_bytes(tmp_path: Path) -> None:
    q = sample()
    for name in ("a", "b"):
        write(q, tmp_path / name, weights_hash="x")
        build(tmp_path / name, tmp_path / f"{name}.elf", CORE, MEMORY)
    assert (tmp_path / "a" / "model.c").read_bytes() == (tmp_path / "b" / "model.c").read_bytes()
    assert (tmp_path / "a.elf").read_bytes() == (tmp_path / "b.elf").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a.elf").read_bytes()


def test_a_deployment_of_another_graph_is_refused(tmp_path: Path) -> None:
    q = sample()
    for other in (uniform(Graph(q.graph.nodes[:4])), replace(uniform(q.graph), weights=("none",))):
        with pytest.raises(ExportError, match="deployment"):
            c.write(q, other, tmp_path, weights_hash="")
