"""Arena bytes of the planner beside simpler figures, and what planning costs. Writes `benchmarks/results/planner.json`.

Two MobileNet-1D students for 10 s at 100 Hz, one plain and one whose blocks are residual, then random candidates of the search space.
All figures count what lies in the arena: the window and the logits are the caller's.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hwnas import families, space
from hwnas.graph import Graph, Shape
from hwnas.memory import align, bound_bytes, plan, scratch_bytes
from hwnas.space import Candidate

WINDOW = Shape(1, 1000)
OUTPUTS, CANDIDATES = 6, 1000
# channels, kernel, stride, expansion
PLAIN = [(24, 5, 2, 2), (32, 5, 2, 3), (48, 5, 2, 3), (64, 5, 2, 3)]
RESIDUAL = [(16, 5, 1, 3), (16, 5, 1, 3), (32, 5, 2, 3), (32, 5, 1, 3), (64, 5, 2, 3), (64, 5, 1, 3)]


def mobilenet(blocks: list[tuple[int, int, int, int]]) -> Graph:
    """A MobileNet-1D behind a stem of 16 channels at a quarter of the sampling rate."""
    names = ("channels", "kernel", "stride", "expansion")
    choices = {"stem_channels": 16, "stem_kernel": 15, "stem_stride": 4, "blocks": len(blocks)}
    choices |= {f"block{i}_{name}": value for i, block in enumerate(blocks, 1) for name, value in zip(names, block, strict=True)}
    return families.build(Candidate("mobilenet1d", tuple(choices.items())), WINDOW, OUTPUTS)


def sizes(graph: Graph) -> list[int]:
    """Bytes in the arena of each node's output."""
    inner = [align(node.shape.elements) for node in graph.nodes[1:-1]]
    return [0, *inner, 0]


def largest_pair_bytes(graph: Graph, *, scratch: bool) -> int:
    """The largest inputs + output of one node, with or without its scratch: what is often taken for the peak."""
    held = sizes(graph)
    need = [scratch_bytes(node, graph.in_shape(node)) if scratch else 0 for node in graph.nodes[1:]]
    return max(held[i] + sum(held[j] for j in {*node.inputs}) + need[i - 1] for i, node in enumerate(graph.nodes) if i)


def first_fit_bytes(graph: Graph) -> int:
    """The arena of a planner that places tensors in order of execution, each at the lowest free offset, and never overlaps two."""
    last_read = {source: index for index, node in enumerate(graph.nodes) for source in node.inputs}
    alive: list[tuple[int, int, int]] = []  # start, end, last reader
    arena = 0
    for index, node in enumerate(graph.nodes[1:], 1):
        alive = [place for place in alive if place[2] >= index]
        for need, last in ((sizes(graph)[index], last_read.get(index, index)), (scratch_bytes(node, graph.in_shape(node)), index)):
            start = 0
            for low, high, _ in sorted(alive):
                if start + need <= low:
                    break
                start = max(start, high)
            if need:
                alive.append((start, start + need, last))
                arena = max(arena, start + need)
    return arena


def figures(name: str, graph: Graph) -> dict[str, str | int]:
    """One row of the first table."""
    return {
        "student": name,
        "nodes": len(graph.nodes),
        "arena_bytes": plan(graph).arena_bytes,
        "bound_bytes": bound_bytes(graph),
        "largest_in_plus_out_bytes": largest_pair_bytes(graph, scratch=False),
        "with_scratch_bytes": largest_pair_bytes(graph, scratch=True),
        "first_fit_bytes": first_fit_bytes(graph),
    }


def survey() -> dict[str, float | int]:
    """Random candidates: how often the bound is met, how much is saved, and processor time a plan."""
    choices, generator = space.read("mobilenet1d"), np.random.default_rng(0)
    drawn = [{n: v[generator.integers(len(v))] for n, v in choices.choices.items()} for _ in range(CANDIDATES)]
    graphs = [families.build(choices.candidate(parameters), WINDOW, OUTPUTS) for parameters in drawn]
    arenas, spent_us = [], []
    for graph in graphs:
        start = time.process_time()
        arenas.append(plan(graph).arena_bytes)
        spent_us.append(1e6 * (time.process_time() - start))
    spent_us.sort()
    bounds = [bound_bytes(graph) for graph in graphs]
    return {
        "candidates": CANDIDATES,
        "at_bound_share": sum(a == b for a, b in zip(arenas, bounds, strict=True)) / CANDIDATES,
        "arena_over_first_fit": round(statistics.mean(a / first_fit_bytes(g) for a, g in zip(arenas, graphs, strict=True)), 3),
        "plan_median_us": round(spent_us[CANDIDATES // 2]),
        "plan_p95_us": round(spent_us[CANDIDATES * 95 // 100]),
        "plan_mean_us": round(statistics.mean(spent_us)),
    }


def main() -> None:
    """Print the tables and write the rows."""
    students = [figures("plain", mobilenet(PLAIN)), figures("residual", mobilenet(RESIDUAL))]
    candidates = survey()
    for title, rows in (("two students", students), ("random candidates", [candidates])):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
        Console(width=160).print(table)
    results = Path(__file__).parent / "results" / "planner.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"students": students, "candidates": candidates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
