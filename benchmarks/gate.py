"""Candidates a second through the gate (Candidate -> Graph -> memory plan -> cost -> verdict) on one core.

The yardstick, timed side by side over the same candidates, is a pure-Python MAC count of the finished graph: what a search that
knew nothing of hardware would compute. Writes `benchmarks/results/gate.json`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hwnas.graph import Graph, Shape, node_macs
from hwnas.hardware.profile import read as read_profile
from hwnas.hardware.table import read as read_table
from hwnas.pipeline.gate import Gate
from hwnas.space.joint import read_joint

CANDIDATES, ROUNDS = 2000, 7


def count_macs(graph: Graph) -> int:
    """The yardstick."""
    return sum(node_macs(node, graph.in_shape(node)) for node in graph.nodes[1:])


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(length: int) -> dict[str, float | int | str]:
    """Medians over rounds that alternate the two, for windows of `length` samples."""
    profile = read_profile("cortex-m4-192k")
    gate = Gate(read_joint(["mobilenet1d"]), Shape(1, length), 6, length / 100, profile, read_table(profile.table_path), profile.limits())
    generator = np.random.default_rng(0)
    drawn = [{n: v[generator.integers(len(v))] for n, v in gate.space.choices.items()} for _ in range(CANDIDATES)]
    graphs = [gate.graph(parameters) for parameters in drawn]
    rejected = sum(bool(gate.judge(parameters).violations) for parameters in drawn)
    rounds = [(seconds(lambda: [gate.judge(p) for p in drawn]), seconds(lambda: [count_macs(g) for g in graphs])) for _ in range(ROUNDS)]
    gate_s, macs_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "window_samples": length,
        "candidates": CANDIDATES,
        "gate_per_s": round(CANDIDATES / gate_s),
        "mac_count_per_s": round(CANDIDATES / macs_s),
        "gate_over_mac_count": round(statistics.median(g / m for g, m in rounds), 2),
        "reject_share": rejected / CANDIDATES,
    }


def main() -> None:
    """Print the table and write the rows."""
    rows = [measure(length) for length in (1000, 3000)]
    table = Table(*rows[0], title="gate on one core, processor time, medians of side-by-side rounds")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)
    results = Path(__file__).parent / "results" / "gate.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
