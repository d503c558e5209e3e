"""Finishing a student: full distillation, int8, exported files, and the firmware benchmark. Writes `students/ID/`.

A student's folder is complete when it holds `card.json`, which is written last; an unfinished one is done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import ExportError, FirmwareError
from hwnas.export import c, floats, onnx, tflite
from hwnas.export.comparison import Comparison
from hwnas.firmware.build import kernel_set_hash, toolchain
from hwnas.firmware.cores import core
from hwnas.firmware.counting import Watch
from hwnas.firmware.emulator import emulate
from hwnas.graph import OP_NAMES
from hwnas.hardware.cost import EMULATED, PREDICTED, Cost, assemble, operator_cycles, provenance
from hwnas.hardware.deployment import Deployment
from hwnas.hardware.profile import Profile, energy_figure
from hwnas.hardware.table import LookupTable
from hwnas.hardware.weights import flash_bytes
from hwnas.pipeline import portrait
from hwnas.pipeline.front import COSTS, describe_metric
from hwnas.pipeline.signals import signals_of
from hwnas.pipeline.workshop import Workshop, WorkshopScorer
from hwnas.quantize import reference, storage
from hwnas.quantize.choice import Shipped
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.report.architecture import summary

CHECK_WINDOWS = 200
TARGETS = {
    "cortex-m4": "Unicorn, Cortex-M4, cycle model of Arm DDI0439; not measured on a board",
    "cortex-a53": "Unicorn, Cortex-A53, static in-order issue model, uncalibrated; not measured on a board",
}
Card = dict[str, Any]
FORMATS: dict[str, Callable[[QuantGraph, Path, Int8], Comparison]] = {"tflite": tflite.write, "onnx": onnx.write}


class StudentFinisher(WorkshopScorer):
    """Finishes students in a worker; the figures it returns are in the card it writes."""

    def metrics(self, shop: Workshop, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """See `WorkshopScorer`; the student's folder is complete afterwards."""
        found: dict[str, float] = finish(shop, parameters, seed)["metrics"]["validation"]
        return found


def finish(shop: Workshop, parameters: Mapping[str, Any], seed: int) -> Card:
    """Distil, quantise, export and benchmark one student; returns its card.

    Raises:
        TrainingError, QuantizationError, ExportError, FirmwareError: the stage that failed says why; no card is written then.
    """
    graph = shop.gate.graph(parameters)
    folder = shop.run.student(graph.hash)
    if folder.exists():
        shutil.rmtree(folder)
    shipped = shop.ship(shop.full(graph, seed), seed)
    q = shipped.q
    floats.save(shipped.student, folder)
    storage.save(q, folder)
    deployment, check = shop.gate.deploy(graph), _check_windows(shop, q)
    exports, lacking = _exports(q, folder, check)
    bench = benchmark(shop, q, deployment, folder, check) | {"exports": exports}
    shop.run.write_json(folder / "bench.json", bench)
    portrait.write(folder, shop.data, shop.run.teacher, deployment.plan)
    card = _card(shop, parameters, shipped, deployment, bench, exports) | {"exports_lacking": lacking}
    shop.run.write_json(folder / "card.json", card)
    return card


def _exports(q: QuantGraph, folder: Path, check: Int8) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Files for other runtimes: how far each is from the reference; and why one is lacking, without which a student ships all the same."""
    written, lacking = {}, {}
    for name, write in FORMATS.items():
        path = folder / f"model.{name}"
        try:
            written[name] = asdict(write(q, path, check)) | {"bytes": path.stat().st_size}
        except ExportError as error:
            lacking[name] = str(error)
    return written, lacking


def benchmark(shop: Workshop, q: QuantGraph, deployment: Deployment, folder: Path, check: Int8) -> dict[str, Any]:
    """Export the C, build it, run the ELF in the emulator, and compare with the reference and with the prediction.

    Raises:
        FirmwareError: the program does not build or run, or one output differs from the reference.
    """
    graph, profile, table = q.graph, shop.gate.profile, shop.gate.table
    part = core(profile.core)
    expected = reference.run(q, check)
    signals, test = signals_of(shop.data.task, shop.data.window), (check[0], expected[0])
    c.write(q, deployment, folder / "firmware", weights_hash=storage.content_hash(q), self_test=test, signals=signals)
    emulator = emulate(folder / "firmware", part, profile.memory)
    measured, produced = emulator.measure(check[0], Watch.READS), emulator.run(check)
    different = int((produced != expected).any(axis=1).sum())
    if different or (measured.output != expected[0]).any():
        raise FirmwareError(f"{folder}: the firmware differs from the int8 reference on {different} of {len(check)} windows; report this")
    predicted = shop.gate.cost(graph, deployment)
    constants = flash_bytes(graph, deployment.weights, part.pointer_bytes)
    all_cycles = profile.cycles(measured.cycles, measured.flash_read_bytes, measured.fetch_lines, constants)
    emulated = provenance(EMULATED, table)
    cost = assemble(graph, profile, shop.data.window_s, all_cycles, measured.ram_bytes, measured.flash_bytes, emulated)
    cycles = operator_cycles(graph, deployment, table)
    operators = [
        {"operator": OP_NAMES[type(n.op)], "weights": w, "kernel": kernel, "predicted_cycles": p, "emulated_cycles": run.cycles}
        for n, w, p, (kernel, run) in zip(graph.nodes[1:], deployment.weights[1:], cycles, measured.per_node(graph), strict=True)
    ]
    return {
        "profile": shop.config.profile,
        "hardware": describe_hardware(profile, table),
        "target": TARGETS[part.name],
        "toolchain": toolchain(part),
        "kernel_set": kernel_set_hash(part),
        "windows": len(check),
        "windows_source": shop.data.split.validation.source,
        "windows_different_from_reference": different,
        "predicted": predicted.as_dict(),
        "emulated": cost.as_dict(),
        "ratios": _ratios(predicted, cost),
        "zero_wait_cycles": measured.cycles,
        "flash_read_bytes": measured.flash_read_bytes,
        "fetch_lines": measured.fetch_lines,
        "arena_bytes": deployment.plan.arena_bytes,
        "stack_bytes": measured.stack_bytes,
        "operators": operators,
    }


def describe_hardware(profile: Profile, table: LookupTable) -> dict[str, Any]:
    """What a reader must know of the target behind a figure: core, clock, methods, energy's source, uncertainty."""
    energy = profile.energy
    return {
        "core": profile.core,
        "clock_hz": profile.clock_hz,
        "predicted": provenance(PREDICTED, table),
        "emulated": provenance(EMULATED, table),
        "flash_wait": profile.flash_wait.source if profile.flash_wait else None,
        "energy": f"{energy_figure(energy)} at {energy.supply_v:g} V, {energy.regulator}: {energy.source}",
        "uncertainty_factor": profile.uncertainty_factor,
        "energy_uncertainty_factor": profile.energy_uncertainty_factor,
        "uncertainty": profile.uncertainty.reason if profile.uncertainty else None,
    }


def _check_windows(shop: Workshop, q: QuantGraph) -> Int8:
    """Validation windows spread over all subjects, as the sensor would feed them: int8 (M, T, C)."""
    x = shop.data.split.validation.x
    chosen = np.linspace(0, len(x) - 1, min(CHECK_WINDOWS, len(x))).astype(np.int64)
    return reference.quantize_input(q, x[chosen])


def _quantisation(shipped: Shipped) -> dict[str, Any]:
    """How the integers were found and what they cost; every metric is of the validation subjects."""
    return {
        "method": shipped.method,
        "calibration": shipped.settings.calibration,
        "temperature": shipped.temperature,
        "confidence": asdict(shipped.confidence) if shipped.confidence is not None else None,
        "float": shipped.float_metrics,
        "ptq": shipped.ptq,
        "qat": shipped.qat,
        "shipped": shipped.shipped,
        "reason": shipped.reason,
        "sensitivity": [asdict(row) for row in shipped.sensitivity],
    }


def _ratios(predicted: Cost, emulated: Cost) -> dict[str, float]:
    return {name: getattr(predicted, name) / getattr(emulated, name) for name in ("cycles", "ram_bytes", "flash_bytes")}


def _card(
    shop: Workshop,
    parameters: Mapping[str, Any],
    shipped: Shipped,
    deployment: Deployment,
    bench: dict[str, Any],
    exports: dict[str, Any],
) -> Card:
    q, validation = shipped.q, shop.data.split.validation
    predicted, emulated = bench["predicted"], bench["emulated"]
    candidate = shop.gate.candidate(parameters)
    return {
        "id": q.graph.hash,
        "family": candidate.family,
        "summary": summary(q.graph),
        "parameters": q.graph.parameters,
        "macs": q.graph.macs,
        "choices": candidate.values,
        "task": shop.data.task.name,
        "metric": describe_metric(shop.data.task),
        "labels": list(q.labels),
        "rate_hz": validation.rate_hz,
        "window_s": validation.window_s,
        "channels": shop.data.window.channels,
        "profile": shop.config.profile,
        "core": shop.gate.profile.core,
        "memory": shop.gate.profile.memory.model_dump(),
        "deployment": asdict(deployment),
        "teacher": shop.teacher.id,
        "distillation": shop.config.distillation,
        "run_seed": shop.config.seed,
        "effort": shop.config.effort,
        "weights_hash": storage.content_hash(q),
        "data": shop.data.provenance,
        "subjects_seen": sorted({*shop.data.split.train.subjects, *validation.subjects}),
        "cost": {n: {"predicted": predicted[n], "emulated": emulated[n]} for n in (*COSTS, "average_power_uw")},
        "metrics": {"validation": shipped.shipped},
        "metrics_float": {"validation": shipped.float_metrics},
        "quantisation": _quantisation(shipped),
        "exports": exports | {"c": {"windows": bench["windows"], "windows_differing": bench["windows_different_from_reference"]}},
        "folder": f"students/{q.graph.hash}",
    }
