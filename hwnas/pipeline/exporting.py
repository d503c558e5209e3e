"""`export_student`: a finished student's folder again in the formats asked for, each verified. Reads that folder, writes another.

Everything is made and verified in a temporary folder beside its destination and moved there only when all of it holds, so a failure
leaves the destination as it was. Verification needs no recordings: its windows are generated, and the result says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hwnas.errors import ExportError, FirmwareError, RunError, UsageError, lookup
from hwnas.export import c, coreml, floats, onnx, tflite
from hwnas.export.seal import check_seal
from hwnas.firmware.build import toolchain
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.graph import FORMAT, Graph
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import EMULATED, PREDICTED, predict, provenance
from hwnas.hardware.deployment import Deployment, deploy
from hwnas.hardware.profile import Profile
from hwnas.hardware.table import LookupTable
from hwnas.hardware.table import read as read_table
from hwnas.pipeline.data import task_of
from hwnas.pipeline.profiling import check_kernels, extended, missing, shapes_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.shipped import CARD_FILE, ShippedCard, deployment_of, load_int8, read_shipped
from hwnas.pipeline.signals import signals_of
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import value_of
from hwnas.student import Student
from hwnas.tasks import check_compatible
from hwnas.teachers.cache import predict as outputs

Figures = dict[str, Any]
WINDOWS, SUBJECTS, SEED = 200, 20, 1_000_003
COREML_WINDOWS = 16  # each is replayed operator by operator
TFLITE, ONNX, FIRMWARE, PACKAGE = "model.tflite", "model.onnx", "firmware", "model.mlpackage"
STUDENTS, EXPORTS = "students", "exports"  # of a run; it deletes students that it no longer chooses, and what is in their folders


@dataclass(frozen=True)
class Format:
    """One format: the files and folders it writes, and the function that writes them into a folder and returns what it found."""

    writes: tuple[str, ...]
    write: Callable[[_Shipment, Path], Figures]


@dataclass(frozen=True)
class _Shipment:
    """A student on its way out, read and generated only as far as its formats need it."""

    folder: Path
    card: ShippedCard
    out: Path
    placed_for: tuple[Profile, LookupTable] | None
    self_test: bool

    @cached_property
    def int8(self) -> QuantGraph:
        return load_int8(self.folder, self.card)

    @cached_property
    def float32(self) -> Student:
        student = floats.load(self.folder)
        self.card.check_graph(student.graph, self.folder)
        return student

    @cached_property
    def windows(self) -> NDArray[np.float32]:
        """Generated windows (N, C, T). Where a student reads more channels than its task has, each is another window's."""
        made = task_of(self.card.task).load(None, window_s=self.card.window_s, seed=SEED, subjects=SUBJECTS, windows=WINDOWS)
        check_compatible(made, self.card.rate_hz, self.card.window_s, made.x.shape[1])
        if made.x.shape[1] == self.card.channels:
            return made.x
        return np.stack([np.roll(made.x[:, 0], shift, axis=0) for shift in range(self.card.channels)], axis=1)

    @cached_property
    def check(self) -> Int8:
        return reference.quantize_input(self.int8, self.windows)


def export_student(
    folder: Path, formats: Sequence[str], out: Path | None, *, profile: str | None, self_test: bool, progress: Progress
) -> dict[str, Any]:
    """Write the student in `folder` into `out` (default: `default_place`) in every one of `formats`.

    Args:
        profile: hardware profile that the C is placed for anew; None is the card's deployment.
        self_test: the C holds windows and the outputs that they must give.

    Returns:
        What was written: files, bytes, and how far each format is from the int8 reference.

    Raises:
        UsageError: no student in `folder`, an unknown format or profile, an extra that is not installed, or in `out` a student or
            something that no export wrote.
        HwnasError: what reading, converting, verifying or writing found; `out` is as it was then.
    """
    chosen = {name: lookup(FORMATS, name, "format") for name in dict.fromkeys(formats)}
    if profile is not None and "c" not in chosen:
        raise UsageError(f"--profile {profile} places the C form of a student; add --format c, or leave --profile out")
    if "coreml" in chosen:
        coreml.require()
    hardware = profiles.read(profile) if profile is not None else None
    target = out if out is not None else default_place(folder)
    card = read_shipped(folder)
    _check_replaceable(target, [name for wanted in chosen.values() for name in wanted.writes])
    placed_for = (hardware, table_for(hardware, load_int8(folder, card).graph, progress)) if hardware is not None else None
    shipment = _Shipment(folder, card, target, placed_for, self_test)
    place = target
    while not place.exists() and place != place.parent:
        place = place.parent
    found = {}
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".hwnas-export-") as work:
            made, old = Path(work) / "new", Path(work) / "old"
            made.mkdir()
            old.mkdir()
            for name, wanted in chosen.items():
                progress.stage(f"writing and verifying {name}")
                figures = wanted.write(shipment, made)
                files = [path for entry in wanted.writes for path in _files(made / entry)]
                found[name] = {
                    "files": [str(path.relative_to(made)) for path in files],
                    "bytes": sum(path.stat().st_size for path in files),
                    **figures,
                }
            _move(made, target, old)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}; free space or choose another --out") from error
    return {
        "student": card.id,
        "folder": str(folder),
        "out": str(target),
        "weights_hash": card.weights_hash,
        "verified_on": {"source": "synthetic", "name": f"signal generator, seed {SEED}"},
        "exports": found,
    }


def default_place(folder: Path) -> Path:
    """Where exports of the student in `folder` go: RUN/exports/ID for one in RUN/students/ID, else STUDENT-export beside its folder."""
    place = folder.resolve()
    return place.parents[1] / EXPORTS / place.name if place.parent.name == STUDENTS else place.parent / f"{place.name}-export"


def _check_replaceable(target: Path, names: Sequence[str]) -> None:
    """Refuse to put files into a student's own folder, or where something stands that was not written by an export."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is no folder; choose another --out")
    if (target / CARD_FILE).exists():
        raise UsageError(f"{target} is a finished student's own folder (it has a {CARD_FILE}), which stays as it is; choose another --out")
    for name in names:
        path = target / name
        if os.path.lexists(path) and not _is_ours(path):
            raise UsageError(f"{path} exists and was not written by hwnas, or was changed since; move it away or choose another --out")


def _is_ours(path: Path) -> bool:
    """Whether `path` is what an export writes by that name, known by the mark that it carries."""
    try:
        return MARKS[path.name](path)
    except (OSError, ExportError, SafetensorError):
        return False


def _holds(mark: str, file: str = "") -> Callable[[Path], bool]:
    return lambda path: mark.encode() in (path / file).read_bytes()


def _is_sealed(path: Path) -> bool:
    check_seal(path.read_bytes(), str(path))
    return True


def _is_float(path: Path) -> bool:
    with safe_open(path, framework="numpy") as file:
        return "hwnas" in (file.metadata() or {})


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _move(made: Path, target: Path, old: Path) -> None:
    """Move everything in `made` into `target`, what it replaces into `old`; where that fails, undo it."""
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    undo: list[Callable[[], None]] = []
    try:
        for folder in reversed(missing):
            folder.mkdir()
            undo.append(folder.rmdir)
        for new in sorted(made.iterdir()):
            place = target / new.name
            if place.exists():
                os.replace(place, old / new.name)
                undo.append(lambda place=place: os.replace(old / place.name, place))  # type: ignore[misc]
            os.replace(new, place)
            undo.append(lambda new=new, place=place: os.replace(place, new))  # type: ignore[misc]
    except BaseException:
        for step in reversed(undo):
            step()
        raise


def _tflite(shipment: _Shipment, folder: Path) -> Figures:
    comparison = tflite.write(shipment.int8, folder / TFLITE, shipment.check)
    return {"comparison": asdict(comparison), "provenance": "run in tflite-runtime and compared with the int8 reference"}


def _onnx(shipment: _Shipment, folder: Path) -> Figures:
    comparison = onnx.write(shipment.int8, folder / ONNX, shipment.check)
    return {"comparison": asdict(comparison), "provenance": "run in onnxruntime and compared with the int8 reference"}


def _coreml(shipment: _Shipment, folder: Path) -> Figures:
    card = shipment.card
    facts = {
        "weights": card.weights_hash,
        "task": card.task,
        "rate_hz": f"{card.rate_hz:g}",
        "window_s": f"{card.window_s:g}",
        "trained_on": f"{card.data.name} ({card.data.source})",
        "verified_on": f"{COREML_WINDOWS} generated windows, operators replayed in torch",
    }
    comparison = coreml.write(shipment.int8, folder / PACKAGE, shipment.check[:COREML_WINDOWS], facts)
    return {"comparison": asdict(comparison), "provenance": coreml.NOT_RUN}


def _float(shipment: _Shipment, folder: Path) -> Figures:
    floats.save(shipment.float32, folder)
    again = outputs(floats.load(folder), shipment.windows)
    if not np.array_equal(again, outputs(shipment.float32, shipment.windows)):
        raise ExportError(f"{folder}: the float student read back gives other outputs; report this")
    int8 = reference.run(shipment.int8, shipment.check)
    return {
        "comparison": {"windows": len(again), **_float_against_int8(shipment.int8, again, int8)},
        "provenance": "read back and run in torch; compared with the int8 reference",
    }


def _float_against_int8(q: QuantGraph, real: NDArray[np.float32], int8: Int8) -> Figures:
    """How far the float student's outputs (N, K) are from the int8 reference's: the label of a classifier, the value of a regression."""
    value = value_of(q.labels)
    if value is None:
        return {"share_other_label": float((real.argmax(1) != int8.argmax(1)).mean())}
    away = np.abs(value.real(real_outputs(q, int8)) - value.real(real))
    return {"mean_difference": float(away.mean()), "largest_difference": float(away.max()), "unit": value.unit}


def _c(shipment: _Shipment, folder: Path) -> Figures:
    card, q, check = shipment.card, shipment.int8, shipment.check
    profile = shipment.placed_for[0] if shipment.placed_for else None
    target: Profile | ShippedCard = profile or card
    deployment, predicted = _deployment(shipment, q.graph)
    expected, signals = reference.run(q, check), signals_of(task_of(card.task), q.graph.input_shape)

    def write(place: Path) -> None:
        test = (check[0], expected[0]) if shipment.self_test else None
        c.write(q, deployment, place, weights_hash=card.weights_hash, self_test=test, signals=signals)

    with tempfile.TemporaryDirectory(dir=folder) as work:
        write(Path(work))
        part = core(target.core)
        emulator = emulate(Path(work), part, target.memory)
        measured, produced = emulator.measure(check[0]), emulator.run(check)
    different = int((produced != expected).any(axis=1).sum())
    if different:
        raise FirmwareError(f"the C form differs from the int8 reference on {different} of {len(check)} windows; report this")
    if (before := shipment.out / FIRMWARE).exists():
        shutil.copytree(before, folder / FIRMWARE)  # what users have put beside the sources stays
    write(folder / FIRMWARE)
    return {
        "comparison": {"windows": len(check), "windows_differing": different},
        "provenance": f"built and run in the emulator, {EMULATED}: {part.name}",
        "toolchain": toolchain(part),
        "profile": profile.name if profile else card.profile,
        "self_test": shipment.self_test,
        "weights": list(deployment.weights),
        "arena_bytes": deployment.plan.arena_bytes,
        "emulated": {
            "zero_wait_cycles": measured.cycles,
            "ram_bytes": measured.ram_bytes,
            "flash_bytes": measured.flash_bytes,
            "stack_bytes": measured.stack_bytes,
        },
        **({"predicted": predicted} if predicted else {}),
    }


def _deployment(shipment: _Shipment, graph: Graph) -> tuple[Deployment, Figures]:
    """How the C is placed, and what that is predicted to cost where a profile was named."""
    if shipment.placed_for is None:
        return deployment_of(shipment.card, graph), {}
    profile, table = shipment.placed_for
    limit = min(profile.limits().flash_bytes, profile.memory.flash.bytes)
    deployment = deploy(graph, profile, table, limit)
    cost = predict(graph, deployment, profile, table, shipment.card.window_s)
    return deployment, cost.as_dict() | {"provenance": provenance(PREDICTED, table)}


def table_for(profile: Profile, graph: Graph, progress: Progress) -> LookupTable:
    """The profile's lookup table with a row for everything in `graph`: what it lacks is profiled on the spot, as a search does.

    Raises:
        CostError: the table is of another core or of other kernels than those that ship.
    """
    table = read_table(profile.table_path)
    check_kernels(table, profile)
    absent = missing(table, shapes_of(graph))
    return extended(table, absent, progress) if absent else table


FORMATS = {
    "tflite": Format((TFLITE,), _tflite),
    "onnx": Format((ONNX,), _onnx),
    "c": Format((FIRMWARE,), _c),
    "coreml": Format((PACKAGE,), _coreml),
    "float": Format((floats.GRAPH_FILE, floats.WEIGHTS_FILE), _float),
}
MARKS: dict[str, Callable[[Path], bool]] = {
    TFLITE: _is_sealed,
    ONNX: _is_sealed,
    FIRMWARE: _holds("#define HWNAS_MODEL_GRAPH_HASH ", "model.h"),
    PACKAGE: _holds("hwnas student ", coreml.SPECIFICATION),
    floats.GRAPH_FILE: _holds(f'"format": "{FORMAT}"'),
    floats.WEIGHTS_FILE: _is_float,
}
