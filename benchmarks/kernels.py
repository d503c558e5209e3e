"""Cycles per MAC of the Cortex-M4 kernels beside published peers. Writes `benchmarks/results/kernels.json`.

Every row is one operator with random constants, run in the emulator (modelled cycles, zero wait states) and held against the int8
reference bit by bit. Three tables: the ten shapes for which peers are known, the layers of MLPerf Tiny's anomaly-detection autoencoder
on an STM32L4R5 (with its flash wait term), and a sweep that looks for shapes much slower than their neighbours.

Peers: CMSIS-NN built with gcc -O3 and run in the same cycle model; the autoencoder's are the published whole-network figures on the chip
(MLPerf Tiny results and the papers of X-CUBE-AI, HALE and Plumerai).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hwnas.export import c
from hwnas.firmware.build import toolchain
from hwnas.firmware.cores import core
from hwnas.firmware.counting import Watch
from hwnas.firmware.emulator import emulate
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, Graph, GraphBuilder, Input, Lstm, Op, node_macs
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout, op_key
from hwnas.hardware.profile import read
from hwnas.hardware.weights import layouts, packed_bytes
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary

CORE = core("cortex-m4")
# (name, operator, channels, length, cycles/MAC of CMSIS-NN, our limit with int16 weights)
PEERS: list[tuple[str, Op, int, int, float, float]] = [
    ("pointwise 16->32, L=1500", Conv1d(32), 16, 1500, 4.65, 1.8),
    ("pointwise 32->32, L=750", Conv1d(32), 32, 750, 3.15, 1.5),
    ("pointwise 64->64, L=375", Conv1d(64), 64, 375, 2.41, 1.3),
    ("depthwise k=5, C=32, L=750", DepthwiseConv1d(5), 32, 750, 21.2, 2.3),
    ("stem 1->16, k=7, stride 2, L=3000", Conv1d(16, 7, 2), 1, 3000, 15.5, 2.0),
    ("conv 16->32, k=5, L=750", Conv1d(32, 5), 16, 750, 2.85, 1.5),
    ("conv 32->32, k=3, L=750", Conv1d(32, 3), 32, 750, 2.68, 1.4),
    ("dense 64->4", Dense(4), 64, 1, 4.47, 2.5),
    ("dense 256->64", Dense(64), 256, 1, 2.60, 1.5),
    ("LSTM 64 hidden, 300 steps, 16 inputs", Lstm(64), 16, 300, 4.59, 1.8),
]
INT8_ALLOWANCE = 0.5
AUTOENCODER = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
AUTOENCODER_PEERS = {"X-CUBE-AI 9.0": 2.39, "HALE": 2.65, "Plumerai v1.1": 1.84}
AUTOENCODER_LIMIT = 2.15
JUMP = 1.5
WIDTH = 160
Row = dict[str, Any]


def network(op: Op, channels: int, length: int) -> Graph:
    """`op` alone."""
    builder = GraphBuilder()
    builder.add(op, builder.add(Input(channels, length)))
    return builder.build()


def measure(profiler: Profiler, name: str, op: Op, channels: int, length: int, weights: Layout, peer: float | None) -> Row:
    """One operator, run once on random data."""
    rng = np.random.default_rng(0)
    q = arbitrary(network(op, channels, length), rng)
    x = rng.integers(-128, 128, (length, channels)).astype(np.int8)
    output, run = profiler.run(q, 1, [x], weights, Watch.CYCLES)
    node = q.graph.nodes[1]
    source = q.graph.in_shape(node)
    macs = node_macs(node, source)
    _, code_bytes = profiler.kernel(op_key(op, source, node.shape, weights))
    return {
        "shape": name,
        "weights": weights,
        "macs": macs,
        "outputs": node.shape.elements,
        "cycles": run.cycles,
        "cycles_per_mac": round(run.cycles / macs, 3),
        "flash_bytes": packed_bytes(op, source, weights) + code_bytes,
        "toolchain": toolchain(CORE),
        "exact": bool((output == reference.run_node(q, 1, x[None])[0]).all()),
        "peer_cycles_per_mac": peer,
    }


def peers(profiler: Profiler) -> list[Row]:
    """The ten shapes in every layout they have, with our limit."""
    rows = []
    for name, op, channels, length, peer, limit in PEERS:
        source = network(op, channels, length).input_shape
        for weights in layouts(op, source):
            row = measure(profiler, name, op, channels, length, weights, peer)
            rows.append(row | {"limit": limit if weights == "int16" else limit + INT8_ALLOWANCE})
    return rows


def geometric_mean(rows: list[Row]) -> float:
    """How many times fewer cycles a MAC than the peer's, over the rows with int16 weights."""
    ratios = [row["peer_cycles_per_mac"] / row["cycles_per_mac"] for row in rows if row["weights"] == "int16"]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def autoencoder() -> Row:
    """The autoencoder's dense layers as one firmware on the STM32L4R5, weights laid out as costs there say."""
    profile = read("stm32l4r5")
    builder = GraphBuilder()
    x = builder.add(Input(AUTOENCODER[0], 1))
    for units in AUTOENCODER[1:]:
        x = builder.add(Dense(units), x)
    q = arbitrary(builder.build(), np.random.default_rng(0))
    window = np.random.default_rng(1).integers(-128, 128, (1, 1, AUTOENCODER[0])).astype(np.int8)
    best: Row = {}
    for weights in ("int8", "int16"):
        with TemporaryDirectory() as work:
            c.write(q, uniform(q.graph, weights), Path(work), weights_hash="")
            run = emulate(Path(work), CORE, profile.memory).measure(window[0], Watch.READS)
        cycles = profile.cycles(run.cycles, run.flash_read_bytes, run.fetch_lines, run.flash_bytes)
        row: Row = {
            "shape": "MLPerf Tiny AD autoencoder on stm32l4r5",
            "weights": weights,
            "macs": q.graph.macs,
            "cycles": cycles,
            "cycles_per_mac": round(cycles / q.graph.macs, 3),
            "cycles_zero_wait": run.cycles,
            "flash_bytes": run.flash_bytes,
            "toolchain": toolchain(CORE),
            "exact": bool((run.output == reference.run(q, window)[0]).all()),
            "peer_cycles_per_mac": AUTOENCODER_PEERS,
            "limit": AUTOENCODER_LIMIT,
        }
        if not best or cycles < best["cycles"]:
            best = row
    return best


Point = tuple[str, int, int, int, int]  # operator, channels, kernel, stride, length


def sweep_points() -> Iterator[tuple[Point, Op]]:
    """Every combination of channels, kernels and strides, at an even and an odd length."""
    for length, stride, kernel, channels in product((95, 96), (1, 2), range(1, 10), range(4, 65, 4)):
        yield ("conv", channels, kernel, stride, length), Conv1d(channels, kernel, stride)
        yield ("depthwise", channels, kernel, stride, length), DepthwiseConv1d(kernel, stride)
    for channels in range(4, 65, 4):
        yield ("dense", channels, 1, 1, 1), Dense(channels)


def neighbours(point: Point) -> list[Point]:
    """One step fewer channels, one less tap, one sample less."""
    name, channels, kernel, stride, length = point
    return [
        (name, channels - 4, kernel, stride, length),
        (name, channels, kernel - 1, stride, length),
        (name, channels, kernel, stride, length - 1),
    ]


def sweep(profiler: Profiler) -> tuple[list[Row], list[Row]]:
    """(rows, those above 1.5 times a neighbour's cycles per MAC)."""
    rows: dict[tuple[Point, Layout], Row] = {}
    for point, op in track(list(sweep_points()), "sweep"):
        name, channels, kernel, stride, length = point
        shape = f"{name} {channels}->{channels} k={kernel} stride {stride} L={length}"
        for weights in layouts(op, network(op, channels, length).input_shape):
            rows[point, weights] = measure(profiler, shape, op, channels, length, weights, None)
    jumps = []
    for (point, weights), row in rows.items():
        for other in neighbours(point):
            pair = sorted([row, rows.get((other, weights), row)], key=_per_mac)
            if _per_mac(pair[1]) > JUMP * _per_mac(pair[0]):
                jumps.append(_jump(pair[1], pair[0]))
    return list(rows.values()), jumps


def _per_mac(row: Row) -> float:
    return float(row["cycles_per_mac"])


def _jump(slow: Row, fast: Row) -> Row:
    """Two neighbours far apart, and why: each output costs its requantisation and a share of its window beside its MACs."""

    def of(row: Row) -> str:
        return f"{row['cycles'] / row['outputs']:.1f} cycles for {row['macs'] / row['outputs']:.0f} MACs an output"

    return {
        "slow": slow["shape"],
        "fast": fast["shape"],
        "weights": slow["weights"],
        "ratio": round(_per_mac(slow) / _per_mac(fast), 2),
        "reason": f"what a call and an output cost beside their MACs weighs more: {of(slow)} against {of(fast)}",
    }


def main() -> None:
    """Measure, print, write."""
    shapes = [(op, channels, length) for _, op, channels, length, *_ in PEERS]
    shapes += [(op, point[1], point[-1]) for point, op in sweep_points()]
    profiler = Profiler(CORE, {own for shape in shapes for own in c.instances(network(*shape))})
    console = Console(width=WIDTH)
    rows = peers(profiler)
    _print(console, "ten shapes beside CMSIS-NN (gcc -O3), emulated, modelled cycles at zero wait states", rows)
    console.print(f"geometric mean over int16 rows: {geometric_mean(rows):.2f} times fewer cycles than CMSIS-NN")
    auto = autoencoder()
    _print(console, "anomaly-detection autoencoder, STM32L4R5 with its flash wait term, emulated", [auto])
    swept, jumps = sweep(profiler)
    console.print(f"sweep: {len(swept)} rows, all exact: {all(r['exact'] for r in swept)}; {len(jumps)} steps above {JUMP}x a neighbour")
    for jump in jumps:
        console.print(f"  {jump['ratio']} x, {jump['weights']}: {jump['slow']} against {jump['fast']}: {jump['reason']}")
    results = Path(__file__).parent / "results" / "kernels.json"
    results.write_text(json.dumps({"peers": rows, "autoencoder": auto, "sweep": swept, "jumps": jumps}, indent=1) + "\n")


def _print(console: Console, title: str, rows: list[Row]) -> None:
    shown = ("shape", "weights", "macs", "cycles", "cycles_per_mac", "limit", "flash_bytes", "exact", "peer_cycles_per_mac")
    table = Table(*shown, title=title)
    for row in rows:
        table.add_row(*(f"{row[name]:,}" if isinstance(row[name], int) and name != "exact" else str(row[name]) for name in shown))
    console.print(table)


if __name__ == "__main__":
    main()
