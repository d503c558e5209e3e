"""`bench_student`: a finished student on a board, in QEMU or in the emulator. Reads the student's folder; runs compilers and processes.

Outputs are compared with the int8 reference bit for bit; a difference is a finding, not an error. Figures stand beside the predicted
ones and say what they are. A target without a cycle counter of its own gives the outputs; cycles then come from the emulator, which
executes the same C, and are called modelled. What the clock of the machine says that ran it, this one or a watch, are no cycles.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hwnas
from hwnas.errors import CostError, DataError, FirmwareError, UsageError
from hwnas.export import c
from hwnas.firmware.board import Board, Counter, Identity, Usage
from hwnas.firmware.board_image import Delay, Flip, Image, Port, find_flip
from hwnas.firmware.build import build, kernel_set_hash
from hwnas.firmware.core import Core
from hwnas.firmware.cores import core
from hwnas.firmware.emulated_board import EmulatedBoard
from hwnas.firmware.emulator import Emulator, emulate
from hwnas.firmware.link import Trouble
from hwnas.firmware.transports import BAUD
from hwnas.graph import OP_NAMES
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import EMULATED, predict
from hwnas.hardware.deployment import Deployment
from hwnas.hardware.ops import calls, table_key
from hwnas.hardware.profile import Memory, Profile
from hwnas.hardware.table import LookupTable
from hwnas.hardware.table import read as read_table
from hwnas.hardware.weights import flash_bytes
from hwnas.pipeline.data import GENERATOR, task_of
from hwnas.pipeline.exporting import STUDENTS, table_for
from hwnas.pipeline.profiling import METHODS, missing, shapes_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.rundir import RunDirectory, read_json
from hwnas.pipeline.shipped import ShippedCard, deployment_of, firmware_of, load_int8, read_shipped
from hwnas.pipeline.targets import Connection, Firmware, Target, linked, parse_target
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import score_outputs
from hwnas.report.architecture import summary
from hwnas.tasks import Task, Windows, check_compatible

__all__ = ["BenchSettings", "Delay", "Flip", "FlipWeight", "Target", "bench_student", "default_place", "parse_target"]

BOARDS = "boards"  # of a run: what its students did on boards
LEAST_RUNS, WARM_UP_RUNS = 10, 3
MOST_RUNS = 100_000  # however short one is
REQUEST_S = 0.5  # of inferences that one call to a board asks for
GENERATOR_SEED, GENERATED_SUBJECTS = 1_000_003, 20
FLIP_WINDOWS = 16  # on which a wrong weight must show
MEASURED, MODELLED, HOST_CLOCK = "measured", "modelled", "clock of the machine that ran it"
Ticks = NDArray[np.int64]
Figures = dict[str, Any]


@dataclass(frozen=True)
class FlipWeight:
    """A fault: one byte of the weights in the program is wrong; which one is searched for, so that outputs change."""


@dataclass(frozen=True)
class BenchSettings:
    """How a student is held against its reference.

    Attributes:
        windows: how many to compare, spread evenly over recordings.
        runs, floor_s: timed inferences: at least so many, and for at least so long. A model knows no floor: it has no noise.
        seed: of the signal generator, where there are no recordings.
        data: folder of recordings of the student's task.
        port: what the image is built for: the name of a port or its folder; default: the target's own.
        flash: command that puts the image on a board; `{image}` stands for its ELF file, `{binary}` for its bytes in flash.
        timeout_s: patience with one answer; default: the link's own.
        fault: built into the program on purpose, for whoever tests what watches boards.
        profile: hardware profile that figures are predicted for; default: that of the port where an image is put on a board, else the
            student's own.
    """

    windows: int = 500
    runs: int = LEAST_RUNS
    floor_s: float = 1.0
    seed: int = GENERATOR_SEED
    data: Path | None = None
    port: str | None = None
    flash: str | None = None
    baud: int = BAUD
    timeout_s: float | None = None
    fault: Delay | Flip | FlipWeight | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise UsageError(f"--windows {self.windows}: at least 1 is compared")
        if not LEAST_RUNS <= self.runs <= MOST_RUNS:
            raise UsageError(f"--runs {self.runs}: {LEAST_RUNS} to {MOST_RUNS:,} are timed; fewer say nothing about their spread")
        if not 0 <= self.floor_s <= 3600:
            raise UsageError(f"--floor-s {self.floor_s:g}: 0 to 3600 seconds are possible")


@dataclass(frozen=True)
class _Subject:
    """A student, and the hardware that its figures are predicted for."""

    folder: Path
    card: ShippedCard
    q: QuantGraph
    firmware: Path
    deployment: Deployment
    profile: Profile
    memory: Memory

    @property
    def part(self) -> Core:
        return core(self.profile.core)

    @cached_property
    def exported_kernels(self) -> str:
        """Hash of the kernels in the student's folder, as of the core it was placed for."""
        path = self.folder / "bench.json"
        return str(read_json(path).get("kernel_set")) if path.exists() else kernel_set_hash(core(self.card.core))

    def kernels(self, part: Core) -> str:
        """Hash of the kernels in the student's folder, as of another core.

        Raises:
            FirmwareError: they are not those that this installation ships, so that nobody knows.
        """
        if part.name == self.card.core:
            return self.exported_kernels
        ships = kernel_set_hash(core(self.card.core))
        if self.exported_kernels != ships:
            raise FirmwareError(
                f"{self.firmware} holds the kernels {self.exported_kernels}, this installation ships {ships}; "
                f"export the student again with `hwnas export {self.folder} --format c`, or give a profile of core {self.card.core}"
            )
        return kernel_set_hash(part)


@dataclass(frozen=True)
class _Timing:
    """Ticks of every timed inference (R,), and of every call of a kernel in some of them (S, calls)."""

    kind: str
    hz: int
    ticks: Ticks
    operator_ticks: Ticks

    def us(self, ticks: float) -> float:
        return float(ticks) / self.hz * 1e6

    @property
    def cycles(self) -> float | None:
        """Median of an inference; None where a clock was read."""
        return None if self.kind == HOST_CLOCK else float(np.median(self.ticks))

    def latency(self) -> Figures:
        low, median, high = (self.us(value) for value in np.percentile(self.ticks, (25, 50, 75)))
        return {
            "kind": self.kind,
            "median_us": median,
            "spread_us": high - low,
            "min_us": self.us(self.ticks.min()),
            "max_us": self.us(self.ticks.max()),
            "runs": len(self.ticks),
        }


def default_place(folder: Path, target: Target) -> Path | None:
    """Where results of the student in `folder` go: RUN/boards/ID/TARGET.json for one in RUN/students/ID, else nowhere by itself."""
    place = folder.resolve()
    return place.parents[1] / BOARDS / place.name / f"{target.name}.json" if place.parent.name == STUDENTS else None


def bench_student(
    folder: Path, target: Target, settings: BenchSettings, progress: Progress, windows: Windows | None = None
) -> dict[str, Any]:
    """Run the student in `folder` on `target`; returns what was found, ready for JSON.

    Args:
        windows: to run all of, instead of those that the settings name.

    Raises:
        UsageError: no student in `folder`, a profile or port that does not exist, or settings that contradict the target.
        RunError, QuantizationError, CostError, DataError: the student's files, the lookup table or recordings cannot be used.
        FirmwareError: the program does not build or flash, or the board runs other firmware. LinkError: it cannot be reached, or falls
            silent.
    """
    connection = Connection(target, settings.port, settings.flash, settings.baud, settings.timeout_s)
    port = connection.needs()
    if settings.fault is not None and port is None and target.kind != "emulator":
        raise UsageError(f"a fault is built into an image, and none is built for '{target}'")
    subject = _read(folder, settings.profile or (port.profile if port and target.kind == "serial" else None))
    card, q, task = subject.card, subject.q, task_of(subject.card.task)
    card.check_task(task, folder)
    table = _table(subject, progress)
    chosen, data = _windows(card, task, settings, windows, progress)
    x = reference.quantize_input(q, chosen.x)
    expected = reference.run(q, x)
    fault = _find_flip(subject, x, progress) if isinstance(settings.fault, FlipWeight) else settings.fault
    delay, flip = fault if isinstance(fault, Delay) else None, fault if isinstance(fault, Flip) else None
    part = port.core if port else subject.part
    kernel_set = subject.kernels(part) if part else subject.exported_kernels
    with ExitStack() as stack:
        board: Board
        emulated: EmulatedBoard | None
        image: Image | None = None
        if target.kind == "emulator":
            progress.stage(f"building for the emulator ({subject.part.name})")
            board = emulated = _emulated(subject, delay, flip)
        else:
            firmware = Firmware(subject.firmware, kernel_set, card.id, card.weights_hash)
            board, image = stack.enter_context(linked(connection, port, firmware, subject.memory, progress, delay=delay, flip=flip))
            emulated = None if _counts(target, board) else _emulated(subject, delay, flip)
        outputs = _outputs(board, x, expected, progress)
        timing = _modelled(emulated, x, settings, progress) if emulated else _measured(board, x, settings, progress)
        usage, trouble = board.usage(), board.trouble
    identity = board.identity
    cycles, is_emulator = timing.cycles, target.kind == "emulator"
    method = f"{subject.part.name}, {METHODS[subject.part.name]}"
    return {
        "student": card.id,
        "summary": summary(q.graph),
        "task": card.task,
        "profile": subject.profile.name,
        "weights_hash": card.weights_hash,
        "graph_hash": q.graph.hash,
        "kernel_set": kernel_set,
        "target": str(target),
        "port": port.name if port else None,
        "board": None if is_emulator else asdict(identity),
        "provenance": f"{EMULATED}: {method}" if is_emulator else _provenance(target, identity, timing, method),
        "windows": len(x),
        "windows_source": chosen.source,
        "data": data,
        "subjects": {"count": len(chosen.subjects), "seen_in_training": _seen(card, chosen, settings)},
        "windows_differing": int((outputs != expected).any(axis=1).sum()),
        "first_difference": _first_difference(outputs, expected),
        "latency": timing.latency(),
        "cycles": None if cycles is None else {"kind": timing.kind, "median": cycles},
        "predicted": _predicted(subject, table),
        "memory": _memory(emulated if is_emulator else None, usage, image),
        "energy": {"kind": MODELLED, "energy_uj": _energy_uj(subject, port, identity, timing)},
        "metrics": _metrics(q, outputs, chosen, task, progress),
        "operators": _operators(subject, table, timing),
        "link": None if is_emulator else _link(trouble, usage),
        "fault": str(fault) if fault else None,
        "warnings": _warnings(subject, port, identity, usage, timing),
        "toolchain": image.toolchain if image else identity.toolchain,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hwnas": hwnas.__version__,
    }


def _read(folder: Path, profile_name: str | None) -> _Subject:
    card = read_shipped(folder)
    q = load_int8(folder, card)
    profile = profiles.read(profile_name or card.profile)
    memory = profile.memory if profile_name else card.memory
    return _Subject(folder, card, q, firmware_of(folder, card), deployment_of(card, q.graph), profile, memory)


def _table(subject: _Subject, progress: Progress) -> LookupTable:
    """The table that predictions are made from: the run's own where it is of this core and these kernels, else the profile's.

    Raises:
        CostError: neither is of the kernels in the student's folder.
    """
    graph, profile = subject.q.graph, subject.profile
    place = subject.folder.resolve()
    own = RunDirectory(place.parents[1]).table
    kernels = subject.kernels(subject.part)
    if place.parent.name == STUDENTS and own.exists():
        table = read_table(own)
        if table.core == profile.core and table.provenance["kernel_set"] == kernels and not missing(table, shapes_of(graph)):
            return table
    table = table_for(profile, graph, progress)
    if table.provenance["kernel_set"] != kernels:
        raise CostError(
            f"{subject.firmware} holds the kernels {kernels}, the lookup table of '{profile.name}' is of {table.provenance['kernel_set']}: "
            f"nothing can be predicted; export the student again with `hwnas export {subject.folder} --format c`"
        )
    return table


def _windows(card: ShippedCard, task: Task, settings: BenchSettings, given: Windows | None, progress: Progress) -> tuple[Windows, str]:
    """What is run, and the name of where it comes from: of recordings those of people whom the student never saw, if there are some."""
    if given is not None:
        check_compatible(given, card.rate_hz, card.window_s, card.channels)
        return given, given.name
    progress.stage("reading recordings" if settings.data else "generating signals")
    if settings.data is None:
        subjects = min(GENERATED_SUBJECTS, settings.windows)
        found = task.load(None, window_s=card.window_s, seed=settings.seed, subjects=subjects, windows=settings.windows)
    else:
        found = task.load(settings.data, window_s=card.window_s, seed=settings.seed)
    check_compatible(found, card.rate_hz, card.window_s, card.channels)
    unseen = ~np.isin(found.subject, card.subjects_seen)
    if settings.data is not None and unseen.any():
        found = found.take(unseen)
    return found.take(spread(found.recordings, settings.windows)), settings.data.resolve().name if settings.data else GENERATOR


def spread(recordings: NDArray[np.str_], count: int) -> NDArray[np.int64]:
    """Indices, in order, of `count` of the windows (N,) or of all: the same number of each recording where it has so many, evenly over
    its time."""
    _, member, sizes = np.unique(recordings, return_inverse=True, return_counts=True)
    chosen, left = [], min(count, len(recordings))
    for waiting, recording in enumerate(np.argsort(sizes, kind="stable")):
        share = min(int(sizes[recording]), left // (len(sizes) - waiting))
        # Into the middle of `share` equal stretches.
        places = (np.arange(share) * 2 + 1) * int(sizes[recording]) // (2 * max(share, 1))
        chosen.append(np.flatnonzero(member == recording)[places])
        left -= share
    return np.sort(np.concatenate(chosen))


def _seen(card: ShippedCard, windows: Windows, settings: BenchSettings) -> int:
    """How many of the subjects the student was trained or chosen on; generated ones are known by the generator's seed as well."""
    if windows.source != card.data.source or (windows.source == "synthetic" and settings.seed != card.run_seed):
        return 0
    return len(set(windows.subjects) & set(card.subjects_seen))


def _find_flip(subject: _Subject, x: Int8, progress: Progress) -> Flip:
    """A byte of the weights that shows when it is wrong. Packed weights are the same in every program of the student."""
    progress.stage("looking for a weight whose fault shows")
    with tempfile.TemporaryDirectory(prefix="hwnas-flip-") as work:
        elf = Path(work) / "model.elf"
        build(subject.firmware, elf, subject.part, subject.memory)
        return find_flip(elf, lambda program: Emulator(program, subject.part).run(x[:FLIP_WINDOWS]))


def _emulated(subject: _Subject, delay: Delay | None, flip: Flip | None) -> EmulatedBoard:
    part = subject.part
    emulator = emulate(subject.firmware, part, subject.memory, delay=delay, flip=flip)
    constants = flash_bytes(subject.q.graph, subject.deployment.weights, part.pointer_bytes)
    kernels = subject.kernels(part)
    return EmulatedBoard(emulator, subject.firmware, part, subject.profile, constants_bytes=constants, kernel_set=kernels)


def _counts(target: Target, board: Board) -> bool:
    """Whether its ticks say something; what QEMU counts are no cycles of any core, whatever a port believes."""
    return target.kind != "qemu" and board.identity.counter is not Counter.NONE


def _outputs(board: Board, x: Int8, expected: Int8, progress: Progress) -> Int8:
    """Outputs int8 (N, K) of all windows."""
    progress.stage(f"running {len(x):,} windows on {board.identity.board}", len(x))
    outputs, different = np.empty_like(expected), 0
    for index, window in enumerate(x):
        outputs[index] = board.run(window).output
        different += bool((outputs[index] != expected[index]).any())
        progress.step(index + 1, f"{different} differ from the reference")
    return outputs


def _modelled(board: EmulatedBoard, x: Int8, settings: BenchSettings, progress: Progress) -> _Timing:
    """Modelled cycles of as many windows as runs are asked for: all the same, unless control flow depends on data."""
    progress.stage(f"modelling cycles of {settings.runs} windows")
    runs = [board.run(x[index], operators=True) for index in np.linspace(0, len(x) - 1, settings.runs).astype(np.int64)]
    ticks = np.array([run.ticks[0] for run in runs])
    return _Timing(MODELLED, board.identity.counter_hz, ticks, np.array([run.operator_ticks for run in runs]))


def _measured(board: Board, x: Int8, settings: BenchSettings, progress: Progress) -> _Timing:
    """Timed inferences on several windows, at least as many and for as long as asked, each call after some untimed ones.

    Raises:
        FirmwareError: the counter stands still.
    """
    identity, runs = board.identity, settings.runs
    progress.stage(f"timing on {identity.board}, at least {runs} runs and {settings.floor_s:g} s")
    ticks: list[int] = []
    operators: list[tuple[int, ...]] = []
    for index in np.linspace(0, len(x) - 1, runs).astype(np.int64):
        run = board.run(x[index], warm_up=WARM_UP_RUNS, operators=True)
        ticks += run.ticks
        operators.append(run.operator_ticks)
    if not any(ticks):
        raise FirmwareError(
            f"{identity.board} says that it counts {identity.counter.name.lower().replace('_', ' ')}, and its counter stands still; "
            "look at `hwnas_port_ticks` of its port (a debugger may hold the counter)"
        )
    floor = settings.floor_s * identity.counter_hz
    while sum(ticks) < floor and len(ticks) < MOST_RUNS:
        mean = max(sum(ticks) / len(ticks), 1)
        repeats = min(math.ceil((floor - sum(ticks)) / mean), math.ceil(REQUEST_S * identity.counter_hz / mean), MOST_RUNS - len(ticks))
        ticks += board.run(x[len(ticks) % len(x)], warm_up=WARM_UP_RUNS, repeats=repeats).ticks
        progress.step(len(ticks), f"{sum(ticks) / identity.counter_hz:.2f} s")
    kind = MEASURED if identity.counter is Counter.CORE_CYCLES else HOST_CLOCK
    return _Timing(kind, identity.counter_hz, np.array(ticks), np.array(operators))


def _provenance(target: Target, identity: Identity, timing: _Timing, method: str) -> str:
    board = identity.board or "a board without a name"
    if timing.kind == MEASURED:
        return f"measured on {board} at {identity.clock}"
    if timing.kind == HOST_CLOCK:
        return f"executed on {board}; times are of the {HOST_CLOCK}, not cycles"
    where = "in QEMU" if target.kind == "qemu" else f"on {board}, without a cycle counter"
    return f"executed {where}; cycles modelled: {method}"


def _energy_uj(subject: _Subject, port: Port | None, identity: Identity, timing: _Timing) -> float | None:
    """Of the profile, for the cycles that were found; None where the board that took them is another part than the profile's."""
    if timing.cycles is None or (timing.kind == MEASURED and _is_other_part(subject.profile, port, identity)):
        return None
    return subject.profile.energy_uj(timing.cycles)


def _is_other_part(profile: Profile, port: Port | None, identity: Identity) -> bool:
    """Whether core or clock of the board differ from the profile's; a counter of cycles runs at a clock that is not stated."""
    core_name = port.core.name if port and port.core else profile.core
    return core_name != profile.core or (identity.clock_hz or identity.counter_hz) != profile.clock_hz


def _first_difference(outputs: Int8, expected: Int8) -> Figures | None:
    found = np.argwhere(outputs != expected)
    if not len(found):
        return None
    window, output = (int(value) for value in found[0])
    return {"window": window, "output": output, "expected": int(expected[window, output]), "got": int(outputs[window, output])}


def _predicted(subject: _Subject, table: LookupTable) -> Figures:
    cost = predict(subject.q.graph, subject.deployment, subject.profile, table, subject.card.window_s)
    figures = cost.as_dict()
    return {name: figures[name] for name in ("cycles", "latency_us", "ram_bytes", "flash_bytes", "energy_uj", "provenance")}


def _memory(emulated: EmulatedBoard | None, usage: Usage, image: Image | None) -> Figures:
    """Of a linked board, flash is the image's, link and port included; its RAM is not the model's alone, and not given."""
    run = emulated.measured if emulated else None
    return {
        "ram_bytes": run.ram_bytes if run else None,
        "stack_bytes": usage.stack_bytes,
        "arena_bytes": usage.arena_bytes,
        "flash_bytes": run.flash_bytes if run else image.flash_bytes if image else None,
        "flash_includes_link": run is None,
    }


def _metrics(q: QuantGraph, outputs: Int8, windows: Windows, task: Task, progress: Progress) -> dict[str, float] | None:
    try:
        return score_outputs(q, outputs, windows, task)
    except DataError as error:
        progress.say(f"no metrics: {error}")
        return None


def _operators(subject: _Subject, table: LookupTable, timing: _Timing) -> list[Figures]:
    """Every operator, all calls of its kernel together: predicted, waits for flash included, beside modelled or measured.

    Raises:
        FirmwareError: the program has another number of calls than the student.
    """
    graph, profile = subject.q.graph, subject.profile
    counts = [calls(node.op, graph.in_shape(node)) for node in graph.nodes[1:]]
    if timing.operator_ticks.shape[1] != sum(counts):
        raise FirmwareError(f"the program calls {timing.operator_ticks.shape[1]} kernels, graph {graph.hash} needs {sum(counts)}")
    found, first = [], 0
    for index, (node, count) in enumerate(zip(graph.nodes[1:], counts, strict=True), start=1):
        weights = subject.deployment.weights[index]
        key, in_length = table_key(node.op, graph.in_shape(node), node.shape, weights)
        cost = table.cost(key, in_length).times(count)
        ticks = float(np.median(timing.operator_ticks[:, first : first + count].sum(axis=1)))
        first += count
        found.append(
            {
                "index": index,
                "operator": OP_NAMES[type(node.op)],
                "kernel": c.packed_node(subject.q, index, weights).kernel,
                "weights": weights,
                "key": str(key),
                "in_length": in_length,
                "calls": count,
                "predicted_cycles": profile.cycles(cost.cycles, cost.flash_read_bytes, cost.fetch_lines, 0),
                "cycles": None if timing.kind == HOST_CLOCK else round(ticks),
                "us": timing.us(ticks),
            }
        )
    return found


def _link(trouble: Trouble, usage: Usage) -> Figures:
    return asdict(trouble) | {"board_bad_frames": usage.bad_frames, "board_stale_frames": usage.stale_frames}


def _warnings(subject: _Subject, port: Port | None, identity: Identity, usage: Usage, timing: _Timing) -> list[str]:
    """What a reader of the figures should know."""
    found, profile = [], subject.profile
    if port and port.core and port.core.name != profile.core:
        found.append(
            f"predicted for {profile.name} ({profile.core}), executed on {port.core.name}: not comparable; name its profile with --profile"
        )
    if timing.kind == MEASURED and _is_other_part(profile, port, identity):
        found.append(
            f"the board counts {timing.hz / 1e6:g} MHz and is another part than {profile.name} ({profile.core}, {profile.clock_hz / 1e6:g} "
            "MHz): clock, waits for flash and energy of the prediction are not its own, and no energy is given; name its own with --profile"
        )
    if usage.arena_bytes is not None and usage.arena_bytes > identity.arena_bytes:
        found.append(
            f"the program wrote {usage.arena_bytes} bytes of its arena, the model declares {identity.arena_bytes}: "
            "a kernel writes beyond it; report this"
        )
    return found
