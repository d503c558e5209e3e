"""Random students of every family: int8 reference, portable C, Cortex-M4 program, TFLite and ONNX side by side.

Fifty random candidates a family that fit `cortex-m4-192k`, each trained for a moment and quantised with calibrated ranges. On 100 windows
each: the outputs of the portable C (this machine) and of the Cortex-M4 program (emulator; one window with cycles counted, the others
bare) must equal the reference bit for bit; every operator of the exported files must be within the steps that its format is allowed;
end to end, the share of windows with the same class and of outputs within one and two steps are reported, and the largest difference.
The exported folder of one student of each family is compiled alone, and its self-test run on this machine and in the emulator.

Windows are generated. `modality_conv` reads four channels at 32 Hz: the generated pulse, and smooth noise in place of an accelerometer.
Writes `benchmarks/results/students.json`.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.signal import resample_poly

from hwnas import families, space
from hwnas.export import c, onnx, tflite
from hwnas.firmware.build import build_host
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.firmware.self_test import COMPILERS, run_self_test
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
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import Int8
from hwnas.student import Student
from hwnas.tasks import TASKS
from hwnas.tasks.base import Windows, normalise
from hwnas.train import SHORT, Targets, fit

PROFILE = "cortex-m4-192k"
CANDIDATES = 50
WINDOWS = 100
TRAINING = 512
DRAWS = 4000
SHARES = ("share_same_class", "share_within_one_step", "share_within_two_steps")
PROCESSES, WIDTH = 2, 160
TASK = TASKS["rhythm"]
HEART_RATE_HZ, HEART_RATE_SAMPLES, AXES = 32, 256, 3
Row = dict[str, Any]


def windows_of(family: str) -> Windows:
    """Generated windows: training ones first, then those that everything is compared on."""
    pulse = TASK.load(None, window_s=10, seed=7, subjects=40, windows=TRAINING + WINDOWS)
    if family != "modality_conv":
        return pulse
    slow = resample_poly(pulse.x, 8, 25, axis=2)[:, :, :HEART_RATE_SAMPLES]
    motion = np.random.default_rng(7).normal(size=(len(slow), AXES, HEART_RATE_SAMPLES)).cumsum(axis=2)
    return replace(pulse, x=normalise(np.concatenate([slow, motion], axis=1)), rate_hz=HEART_RATE_HZ)


def draw(family: str, seed: int) -> Graph:
    """A random candidate of a family for its windows."""
    found, rng = space.read(family), np.random.default_rng(seed)
    parameters = {name: values[rng.integers(len(values))] for name, values in found.choices.items()}
    window = Shape(1 + AXES, HEART_RATE_SAMPLES) if family == "modality_conv" else Shape(1, 1000)
    return families.build(found.candidate(parameters), window, len(TASK.labels))


def trained(graph: Graph, windows: Windows, seed: int) -> Student:
    """A student after a moment of training: weights, batch norms and ranges are of a real network's kind."""
    student = Student(graph, torch.Generator().manual_seed(seed))
    recipe = replace(SHORT, epochs=2, windows_per_epoch=TRAINING, batch_size=32, loss=replace(SHORT.loss, name="hard"))
    fit(student, windows.x[:TRAINING], Targets(windows.y[:TRAINING]), recipe, seed=seed)
    return student


def compared(job: tuple[str, int, Path, bool]) -> Row:
    """One student in every form."""
    family, seed, path, alone = job
    torch.set_num_threads(1)
    graph, windows = draw(family, seed), windows_of(family)
    q = quantize(trained(graph, windows, seed), windows.x[:TRAINING], TASK.labels)
    x = reference.quantize_input(q, windows.x[TRAINING:])
    expected = reference.run(q, x)
    profile, table = read_profile(PROFILE), read_table(path)
    deployment = deploy(graph, profile, table, profile.limits().flash_bytes)
    predicted = predict(graph, deployment, profile, table, windows.window_s)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        c.write(q, deployment, place / "firmware", weights_hash="", self_test=(x[0], expected[0]))
        portable = on_host(place, graph, deployment.plan.arena_bytes, x)
        emulator = emulate(place / "firmware", core(profile.core), profile.memory)
        hooked, bare = emulator.measure(x[0]), emulator.run(x)
        forms = {
            "tflite": tflite.write(q, place / "model.tflite", x),
            "onnx": onnx.write(q, place / "model.onnx", x),
        }
        tflite_bytes = (place / "model.tflite").stat().st_size
        tested = {name: _verdict(run_self_test(place / "firmware", name)) for name in COMPILERS} if alone else {}
    return {
        "family": family,
        "seed": seed,
        "graph": graph.hash,
        "parameters": graph.parameters,
        "macs": graph.macs,
        "portable_differing": int((portable != expected).any(axis=1).sum()),
        "cortex_m4_differing": int((bare != expected).any(axis=1).sum() + (hooked.output != expected[0]).any()),
        "predicted_cycles": predicted.cycles,
        "emulated_cycles": hooked.cycles,
        "tflite_bytes": tflite_bytes,
        "c_flash_bytes": hooked.flash_bytes,
        "forms": {name: asdict(found) for name, found in forms.items()},
        "self_tests": tested,
    }


def _verdict(wrong: int) -> str:
    return "passed" if wrong == 0 else f"output {wrong - 1} is wrong"


def on_host(place: Path, graph: Graph, arena_bytes: int, x: Int8) -> Int8:
    """Outputs of the portable C, compiled for this machine."""
    build_host(place / "firmware", place / "model.so")
    library = ctypes.CDLL(str(place / "model.so"))
    arena, out = np.zeros(max(arena_bytes, 4), np.int8), np.zeros((len(x), graph.output_shape.elements), np.int8)
    for window, row in zip(np.ascontiguousarray(x), out, strict=True):
        library.hwnas_model_run(*(ctypes.c_void_p(a.ctypes.data) for a in (window, row, arena)))
    return out


def fitting(family: str, table: LookupTable) -> tuple[list[int], LookupTable]:
    """Seeds of the first candidates within the default budget, and the table with the rows they need."""
    profile, chosen, seen = read_profile(PROFILE), [], set()
    for seed in range(DRAWS):
        graph = draw(family, seed)
        if graph.hash in seen:
            continue
        seen.add(graph.hash)
        if absent := missing(table, shapes_of(graph)):
            table = extended(table, absent, Silent())
        cost = predict(graph, deploy(graph, profile, table, profile.limits().flash_bytes), profile, table, 10.0)
        if not violations(cost, profile.limits(), profile):
            chosen.append(seed)
        if len(chosen) == CANDIDATES:
            break
    return chosen, table


def summarise(rows: list[Row]) -> Row:
    """Sums, worst cases and shares over all windows of a family."""
    figures: Row = {
        "students": len(rows),
        "parameters": f"{min(r['parameters'] for r in rows):,} - {max(r['parameters'] for r in rows):,}",
        "windows each": WINDOWS,
        "windows where portable C differs": sum(r["portable_differing"] for r in rows),
        "windows where Cortex-M4 differs": sum(r["cortex_m4_differing"] for r in rows),
        "predicted cycles = emulated": sum(r["predicted_cycles"] == r["emulated_cycles"] for r in rows),
        "model.tflite, bytes (median)": int(np.median([r["tflite_bytes"] for r in rows])),
        "C in flash, bytes (median)": int(np.median([r["c_flash_bytes"] for r in rows])),
    }
    for form in rows[0]["forms"]:
        found = [r["forms"][form] for r in rows]
        for name in sorted({name for f in found for name in f["operator_steps"]}):
            steps = max(f["operator_steps"].get(name, 0) for f in found)
            figures[f"{form}, {name} alone, largest step"] = steps
        for kernels in found[0]["kernels"]:
            parts = [f["kernels"][kernels] for f in found]
            for name in SHARES:
                values = [part[name] for part in parts]
                figures[f"{form} {kernels}, {name.replace('_', ' ')}: mean, worst"] = f"{np.mean(values):.4f}, {min(values):.4f}"
            figures[f"{form} {kernels}, largest step"] = max(part["largest_step"] for part in parts)
    return figures


def self_tests(rows: list[Row]) -> dict[str, str]:
    """What the self-test of the first student of a family says, compiled alone in an empty folder by every compiler there is."""
    return next(r["self_tests"] for r in rows if r["self_tests"])


def main() -> None:
    """Every family on two processes; print, write."""
    console = Console(width=WIDTH)
    wanted = sys.argv[1:] or space.names()
    table = read_table(read_profile(PROFILE).table_path)
    jobs = []
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "table.csv"
        for family in wanted:
            seeds, table = fitting(family, table)
            jobs += [(family, seed, path, seed == seeds[0]) for seed in seeds]
        write_table(table, path)
        with ProcessPoolExecutor(PROCESSES) as pool:
            rows = list(track(pool.map(compared, jobs), "comparing", len(jobs), console=console))
    summary = {family: summarise([r for r in rows if r["family"] == family]) for family in wanted}
    shown = Table("", *summary, title="students of every family in every form (generated windows)")
    for name in dict.fromkeys(name for part in summary.values() for name in part):
        shown.add_row(name, *(_text(part.get(name, "")) for part in summary.values()))
    console.print(shown)
    for family in wanted:
        tested = self_tests([r for r in rows if r["family"] == family])
        console.print(f"self-test of one {family}, its folder alone: " + ", ".join(f"{c}: {verdict}" for c, verdict in tested.items()))
    results = Path(__file__).parent / "results" / "students.json"
    lines = ",\n".join(json.dumps(row) for row in rows)
    results.write_text(f'{{"summary": {json.dumps(summary, indent=1)},\n"rows": [\n{lines}\n]}}\n')


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
