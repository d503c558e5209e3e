"""Seconds to emulate one window of a student of about a million MACs with modelled cycles, decoding of its program included.

The yardstick, run side by side, is the same window without counting. Writes `benchmarks/results/emulation.json`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from hwnas import families, space
from hwnas.export import c
from hwnas.firmware.build import build
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import Emulator
from hwnas.graph import Graph, Shape
from hwnas.hardware.deployment import uniform
from hwnas.hardware.profile import read
from hwnas.quantize.arbitrary import arbitrary

MACS = 1_000_000
ROUNDS = 7


def student() -> Graph:
    """The candidate among random ones whose number of MACs is nearest to a million."""
    found, rng = space.read("mobilenet1d"), np.random.default_rng(0)
    drawn = [{n: v[rng.integers(len(v))] for n, v in found.choices.items()} for _ in range(400)]
    graphs = [families.build(found.candidate(parameters), Shape(1, 1000), 6) for parameters in drawn]
    return min(graphs, key=lambda graph: abs(graph.macs - MACS))


def main() -> None:
    """Measure, print, write."""
    graph = student()
    q = arbitrary(graph, np.random.default_rng(0))
    x = np.zeros((1, graph.input_shape.length, graph.input_shape.channels), np.int8)
    counted, bare = [], []
    with tempfile.TemporaryDirectory() as work:
        elf = Path(work) / "model.elf"
        c.write(q, uniform(graph, "int16"), Path(work) / "model", weights_hash="")
        build(Path(work) / "model", elf, core("cortex-m4"), read("cortex-m4-192k").memory)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            cycles = Emulator(elf, core("cortex-m4")).measure(x[0]).cycles
            middle = time.perf_counter()
            Emulator(elf, core("cortex-m4")).run(x)
            counted.append(middle - start)
            bare.append(time.perf_counter() - middle)
    row = {
        "macs": graph.macs,
        "modelled_cycles": cycles,
        "counted_s": round(statistics.median(counted), 3),
        "worst_counted_s": round(max(counted), 3),
        "bare_s": round(statistics.median(bare), 3),
        "counted_over_bare": round(statistics.median(a / b for a, b in zip(counted, bare, strict=True)), 2),
    }
    Console().print(row)
    (Path(__file__).parent / "results" / "emulation.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
