"""Random operators and random networks: int8 reference == portable C on this machine == Cortex-M4 C, bit by bit.

A sample runs by default; `-m slow` runs 2,000 operators and 200 networks.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_networks import random_modalities, random_network, random_operator

from hwnas.export import c
from hwnas.export.packing import pack_node
from hwnas.firmware.build import build, build_host
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import Emulator
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Concat, Graph
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout
from hwnas.hardware.profile import read
from hwnas.hardware.weights import layouts
from hwnas.memory import scratch_bytes
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.resources import folder

GUARD = 32
CORE = core("cortex-m4")
Host = Callable[[QuantGraph, list[Int8], Layout], Int8]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Runs node 1 by the portable kernels, and checks that nothing beside output and scratch was written."""
    place = tmp_path_factory.mktemp("host")
    bench = folder("firmware_bench")
    for part in ("kernels", "include"):
        (place / part).symlink_to(bench / part)
    (place / "model.c").write_text("#include <stdint.h>\n")
    build_host(place, place / "kernels.so")
    library = ctypes.CDLL(str(place / "kernels.so"))

    def run(q: QuantGraph, inputs: list[Int8], weights: Layout) -> Int8:
        node, packed = q.graph.nodes[1], pack_node(q, 1, weights)
        words = packed.packed
        head = struct.pack("<Q", words.ctypes.data) if words.size else b""
        params = ctypes.create_string_buffer(head + struct.pack(f"<{len(packed.params)}i", *packed.params.values()))
        out = np.full(node.shape.elements + 2 * GUARD, 0x55, np.int8)
        scratch = np.full(scratch_bytes(node, q.graph.in_shape(node)) + 2 * GUARD, 0x55, np.int8)
        copies = [np.ascontiguousarray(x) for x in inputs]
        aux = copies[1].ctypes.data if len(copies) > 1 else scratch.ctypes.data + GUARD
        function = getattr(library, packed.kernel)
        function.restype = None
        function(params, ctypes.c_void_p(copies[0].ctypes.data), ctypes.c_void_p(out.ctypes.data + GUARD), ctypes.c_void_p(aux))
        for buffer in (out, scratch):
            assert (buffer[:GUARD] == 0x55).all() and (buffer[-GUARD:] == 0x55).all()
        return out[GUARD:-GUARD].reshape(node.shape.length, node.shape.channels)

    return run


def data(rng: np.random.Generator, *shape: int) -> Int8:
    """Random values, sometimes only the two ends of the range."""
    if rng.random() < 0.2:
        return rng.choice(np.array([-128, 127], np.int8), shape)
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_operators(count: int, host: Host) -> None:
    graphs = [random_operator(np.random.default_rng(seed)) for seed in range(count)]
    profiler = Profiler(CORE, sorted({f for graph in graphs for f in c.instances(graph)}))
    for seed, graph in enumerate(graphs):
        rng = np.random.default_rng(seed)
        q, node = arbitrary(graph, rng), graph.nodes[1]
        length, channels = graph.input_shape.length, graph.input_shape.channels
        inputs = [data(rng, length, channels) for _ in range(2 if isinstance(node.op, Add | Concat) else 1)]
        expected = reference.run_node(q, 1, *(x[None] for x in inputs))[0]
        for weights in layouts(node.op, graph.input_shape):
            np.testing.assert_array_equal(host(q, inputs, weights), expected, f"portable {weights}, seed {seed}: {node}")
            output, run = profiler.run(q, 1, inputs, weights)
            np.testing.assert_array_equal(output, expected, f"Cortex-M4 {weights}, seed {seed}: {node}")
            assert 0 < run.stack_bytes < 512 and run.cycles > graph.macs / 4


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_networks(count: int, tmp_path: Path) -> None:
    """Whole programs, in both weight layouts by turns: planner, packing, layer table and kernels together."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        graph = (random_network, random_modalities)[seed // 2 % 2](rng, longest=200)
        q = arbitrary(graph, rng)
        deployment = uniform(graph, ("int8", "int16")[seed % 2])
        x = data(rng, 3, graph.input_shape.length, graph.input_shape.channels)
        expected = reference.run(q, x)
        place = tmp_path / str(seed)
        c.write(q, deployment, place / "m", weights_hash="")
        np.testing.assert_array_equal(run_on_host(place, graph, deployment.plan.arena_bytes, x), expected, f"portable, seed {seed}")
        build(place / "m", place / "m.elf", CORE, read("cortex-m4-192k").memory)
        np.testing.assert_array_equal(Emulator(place / "m.elf", CORE).run(x), expected, f"Cortex-M4, seed {seed}")


def run_on_host(place: Path, graph: Graph, arena_bytes: int, x: Int8) -> Int8:
    """Outputs of the portable build, from an arena that holds garbage and is guarded."""
    build_host(place / "m", place / "m.so")
    library = ctypes.CDLL(str(place / "m.so"))
    arena = np.full(max(arena_bytes, 4) + 2 * GUARD, 0x55, np.int8)
    out = np.zeros((len(x), graph.output_shape.elements), np.int8)
    for window, row in zip(x, out, strict=True):
        window = np.ascontiguousarray(window)
        library.hwnas_model_run(*(ctypes.c_void_p(a) for a in (window.ctypes.data, row.ctypes.data, arena.ctypes.data + GUARD)))
    assert (arena[:GUARD] == 0x55).all() and (arena[-GUARD:] == 0x55).all()
    return out
