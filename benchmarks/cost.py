"""Predicted against emulated cost of whole models. Writes `benchmarks/results/cost.json`.

300 random candidates of every family and 300 random graphs with residuals, concatenations, pools, LSTMs and modalities (or of those named
on the command line, whose rows take the place of earlier ones). The prediction reads the lookup table (rows that it lacks are profiled
alone first, as a search does); the emulation executes the exported program whole. Beside it stands what a cost model that knows only MACs
would say: `cycles = c * MACs` with the c that fits these models best.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hwnas import families, space
from hwnas.export import c
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.graph import Graph, Shape
from hwnas.hardware.cost import predict, violations
from hwnas.hardware.deployment import deploy
from hwnas.hardware.profile import read as read_profile
from hwnas.hardware.table import LookupTable
from hwnas.hardware.table import read as read_table
from hwnas.hardware.table import write as write_table
from hwnas.pipeline.profiling import extended, missing, shapes_of
from hwnas.pipeline.progress import Silent
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from random_networks import random_network

PROFILE = "cortex-m4-192k"
CANDIDATES, SPARE = 300, 60  # some networks do not fit the part
PROCESSES = 2
FLASH_LIMITS_BYTES = (16_384, 65_536, 524_288)  # drawn at random, so that both weight layouts occur
RHYTHM_LENGTHS = (1000, 3000)
HEART_RATE_WINDOW = Shape(4, 256)
OF_HEART_RATE = ("modality_conv", "spectral")
MIXED = "mixed"  # random graphs of all operators
Row = dict[str, Any]


def candidate(family: str, rng: np.random.Generator) -> Graph:
    """A random candidate of a search space for one of the windows that shipped tables cover."""
    found = space.read(family)
    parameters = {name: values[rng.integers(len(values))] for name, values in found.choices.items()}
    window = HEART_RATE_WINDOW if family in OF_HEART_RATE else Shape(1, int(rng.choice(RHYTHM_LENGTHS)))
    return families.build(found.candidate(parameters), window, 1 if family == "spectral" else 6)


def emulated(job: tuple[str, int, Path]) -> Row:
    """Predict from the table in a file; then export, build, run one model: the figures of the program that ran."""
    family, seed, path = job
    graph, limit = model(family, seed)
    profile = read_profile(PROFILE)
    table = read_table(path)
    deployment = deploy(graph, profile, table, limit)
    predicted = predict(graph, deployment, profile, table, 10.0)
    rng = np.random.default_rng(seed)
    q = arbitrary(graph, rng)
    x = rng.integers(-128, 128, (1, graph.input_shape.length, graph.input_shape.channels)).astype(np.int8)
    with tempfile.TemporaryDirectory() as work:
        c.write(q, deployment, Path(work), weights_hash="")
        run = emulate(Path(work), core("cortex-m4"), profile.memory).measure(x[0])
        declared = next(line for line in (Path(work) / "model.h").read_text().splitlines() if "ARENA_BYTES" in line)
    return {
        "family": family,
        "seed": seed,
        "macs": graph.macs,
        "weights": sorted(set(deployment.weights) - {"none"}),
        "predicted_cycles": predicted.cycles,
        "emulated_cycles": run.cycles,
        "predicted_ram_bytes": predicted.ram_bytes,
        "emulated_ram_bytes": run.ram_bytes,
        "predicted_flash_bytes": predicted.flash_bytes,
        "emulated_flash_bytes": run.flash_bytes,
        "predicted_arena_bytes": deployment.plan.arena_bytes,
        "declared_arena_bytes": int(declared.split()[-1]),
        "exact": bool((run.output == reference.run(q, x)[0]).all()),
    }


def model(family: str, seed: int) -> tuple[Graph, int]:
    """A graph and the flash that its weights may take."""
    rng = np.random.default_rng(seed)
    graph = random_network(rng) if family == MIXED else candidate(family, rng)
    return graph, int(rng.choice(FLASH_LIMITS_BYTES))


def fits(family: str, seed: int, table: LookupTable) -> bool:
    """Whether a model fits the part's memory at all."""
    graph, limit = model(family, seed)
    profile = read_profile(PROFILE)
    part = profile.memory
    budget = profile.limits().override(ram_bytes=part.sram.bytes, flash_bytes=part.flash.bytes)
    broken = violations(predict(graph, deploy(graph, profile, table, limit), profile, table, 10.0), budget, profile)
    return not {"ram_bytes", "flash_bytes"} & set(broken)


def summarise(rows: list[Row]) -> Row:
    """Worst and typical errors, and the share that MACs alone would get right."""
    errors = [abs(r["predicted_cycles"] / r["emulated_cycles"] - 1) for r in rows]
    per_mac = [r["emulated_cycles"] / r["macs"] for r in rows]
    constant = best_constant(per_mac)
    return {
        "models": len(rows),
        "exact_outputs": sum(r["exact"] for r in rows),
        "worst_cycle_error": max(errors),
        "median_cycle_error": statistics.median(errors),
        "arena_equal": sum(r["predicted_arena_bytes"] == r["declared_arena_bytes"] for r in rows),
        "ram_under": sum(r["predicted_ram_bytes"] < r["emulated_ram_bytes"] for r in rows),
        "worst_ram_excess_bytes": max(r["predicted_ram_bytes"] - r["emulated_ram_bytes"] for r in rows),
        "flash_equal": sum(r["predicted_flash_bytes"] == r["emulated_flash_bytes"] for r in rows),
        "cycles_per_mac": constant,
        "within_10_percent_by_macs": sum(abs(constant / ratio - 1) <= 0.1 for ratio in per_mac) / len(rows),
    }


def best_constant(per_mac: list[float]) -> float:
    """The c of `cycles = c * MACs` that puts most models within 10 %."""
    return max(per_mac, key=lambda c: sum(abs(c / ratio - 1) <= 0.1 for ratio in per_mac))


def main() -> None:
    """Run every model on two processes, print, write."""
    console = Console()
    profile = read_profile(PROFILE)
    table = read_table(profile.table_path)
    names = sys.argv[1:] or [*space.names(), MIXED]
    drawn = [(family, seed) for family in names for seed in range(CANDIDATES + SPARE)]
    wanted = {shape for job in drawn for shape in shapes_of(model(*job)[0])}
    console.print(f"profiling {len(missing(table, wanted)):,} operator shapes that the shipped table lacks")
    table = extended(table, missing(table, wanted), Silent(), jobs=PROCESSES)
    jobs = [job for family in names for job in [j for j in drawn if j[0] == family and fits(*j, table)][:CANDIDATES]]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "table.csv"
        write_table(table, path)
        with ProcessPoolExecutor(PROCESSES) as pool:
            found = pool.map(emulated, [(*job, path) for job in jobs], chunksize=4)
            rows = list(track(found, "emulating", len(jobs), console=console))
    summary = {family: summarise([r for r in rows if r["family"] == family]) for family in names}
    shown = Table("", *summary, title="predicted against emulated whole models, cortex-m4-192k (modelled cycles)")
    for name in next(iter(summary.values())):
        shown.add_row(name, *(f"{part[name]:.4g}" for part in summary.values()))
    console.print(shown)
    results = Path(__file__).parent / "results" / "cost.json"
    before = json.loads(results.read_text()) if results.exists() else {"summary": {}, "rows": []}
    summary = before["summary"] | summary
    rows = [row for row in before["rows"] if row["family"] not in names] + rows
    lines = ",\n".join(json.dumps(row) for row in rows)
    results.write_text(f'{{"summary": {json.dumps(summary, indent=1)},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
