"""A student's portrait, `students/ID/portrait.json`: its operators and where they lie, where it errs, how sure it is. Torch; writes it.

Figures of operators are those of `bench.json`, and places those of the plan that shipped. Answers are of the validation subjects, by the
int8 form, the float form and the teacher, all calibrated as they ship; the test subjects' join when the front is frozen, of the int8 form
alone. A regression has values in the place of classes.

Nodes are numbered as in `graph.json`: the window is 0, operators begin at 1. What is null belongs to another kind of task, or stands in
`not_recorded`: a folder of an earlier version holds no answers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError, RunError
from hwnas.export import floats
from hwnas.graph import (
    OP_NAMES,
    Graph,
    node_biases,
    node_macs,
    node_weights,
)
from hwnas.memory import ABSENT, Plan, align, scratch_bytes, values_bytes
from hwnas.metrics import confidence_bins
from hwnas.pipeline.data import RunData
from hwnas.pipeline.rundir import read_json
from hwnas.quantize import reference, storage
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import value_of
from hwnas.report.architecture import name_of
from hwnas.resources import write_text
from hwnas.tasks.base import Task, Windows
from hwnas.teachers.cache import cached_outputs, predict
from hwnas.teachers.card import load_teacher

PORTRAIT_FILE = "portrait.json"
BINS = 10  # of confidence, equal in width
BIN_BPM = 2
VALIDATION, TEST = "validation", "test"
INT8, FLOAT, TEACHER = "int8", "float", "teacher"
COUNTS = ("confusion", "reliability", "values")  # by part and form
ANSWERS = ("classes", *COUNTS, "agreement", "by_subject")
OTHERS = ("card.json", PORTRAIT_FILE)  # of a student's folder: about what ships, not what ships

Portrait = dict[str, Any]
Reals = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Bytes of the arena that hold one node's output, or its scratch, while operators `first` to `last` run."""

    node: int
    kind: str
    offset: int
    bytes: int
    first: int
    last: int


def write(folder: Path, data: RunData, teacher: Path, plan: Plan) -> None:
    """Write the portrait of the student in `folder`, which holds all of its files but the card; its teacher is in the folder `teacher`.

    Raises:
        RunError, QuantizationError, ExportError, TrainingError: files that are missing or damaged.
    """
    q, task, validation = storage.load(folder), data.task, data.split.validation
    outputs: dict[str, Reals] = {
        INT8: real_outputs(q, reference.run(q, reference.quantize_input(q, validation.x))),
        FLOAT: predict(floats.load(folder), validation.x),
        TEACHER: _teacher(teacher, validation, task),
    }
    portrait = _hardware(folder, q.graph, plan) | {
        **_empty(),
        "classes": list(task.labels) if task.kind == "classification" else None,
        "agreement": agreement(task, outputs),
        "by_subject": _by_subject(task, outputs[INT8], validation, VALIDATION),
        "not_recorded": [],
    }
    _write(folder, _with_part(portrait, VALIDATION, task, validation, outputs))


def add_test(folder: Path, data: RunData, teacher: Path, outputs: Reals) -> None:
    """Add what the int8 student in `folder` answers for the test subjects, real outputs (N, K); for after the front is frozen.

    Raises:
        RunError: a portrait that is damaged. Others as `write`, where the folder has no portrait yet.
    """
    if not (folder / PORTRAIT_FILE).exists():
        graph = storage.load(folder).graph
        plan = _shipped_plan(folder, graph)
        if plan is None:
            raise RunError(f"{folder}: card.json holds no arena plan of this student; search anew with another --out")
        write(folder, data, teacher, plan)
    portrait, test = _without_test(_read(folder)), data.split.test
    portrait["by_subject"] |= _by_subject(data.task, outputs, test, TEST)
    _write(folder, _with_part(portrait, TEST, data.task, test, {INT8: outputs}))


def remove_test(folder: Path) -> None:
    """Take the test subjects out of the portrait in `folder`, of a student that an extended run no longer has on its front."""
    if (folder / PORTRAIT_FILE).exists():
        portrait = _read(folder)
        if (without := _without_test(portrait)) != portrait:
            _write(folder, without)


def portrait_of(folder: Path) -> Portrait:
    """The portrait of the student in `folder`; where none was written, what graph, card and bench say of its operators and memory.

    Raises:
        RunError, GraphError: a file that is damaged, or no graph.
    """
    if (folder / PORTRAIT_FILE).exists():
        return read_json(folder / PORTRAIT_FILE)
    try:
        graph = Graph.from_json((folder / storage.GRAPH_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{folder / storage.GRAPH_FILE}: cannot be read ({error}); the run is incomplete or damaged") from error
    plan = _shipped_plan(folder, graph)
    found = _hardware(folder, graph, plan) | _empty()
    lacking = [] if plan is not None else ["arena_bytes", "tensors"]
    lacking += [] if (folder / "bench.json").exists() else ["predicted_cycles", "emulated_cycles"]
    return found | {"not_recorded": [*lacking, *ANSWERS]}


def tensors(graph: Graph, plan: Plan) -> list[Tensor]:
    """Everything that lies in the arena: outputs from the operator that writes them to the last one that reads them, and scratch."""
    last = list(range(len(graph.nodes)))
    for index, node in enumerate(graph.nodes):
        for read in node.inputs:
            last[read] = index
    found = []
    for index, node in enumerate(graph.nodes):
        if plan.offsets[index] != ABSENT:
            found.append(Tensor(index, "output", plan.offsets[index], align(values_bytes(node.shape)), index, last[index]))
        if plan.scratch[index] != ABSENT:
            found.append(Tensor(index, "scratch", plan.scratch[index], scratch_bytes(node, graph.in_shape(node)), index, index))
    return found


def live_bytes(placed: list[Tensor], index: int) -> int:
    """Bytes of the arena that hold something while operator `index` runs; what lies one upon the other counts once."""
    spans = sorted((t.offset, t.offset + t.bytes) for t in placed if t.first <= index <= t.last)
    total = end = 0
    for low, high in spans:
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def confusion(predicted: NDArray[np.integer[Any]], y: NDArray[np.integer[Any]], classes: int) -> list[list[int]]:
    """How many windows of each class, a row each, got each answer, a column each."""
    counts = np.bincount(np.asarray(y) * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    return [[int(count) for count in row] for row in counts]


def reliability(logits: Reals, y: NDArray[np.integer[Any]], bins: int = BINS) -> list[dict[str, float | int]]:
    """Mean confidence of softmax(`logits` (N, K)) in its first class, and how often that was right, in the bins of `hwnas.metrics.ece`.

    Bins without windows are left out.
    """
    confidence, right, number = confidence_bins(logits, y, bins)
    return [
        {"confidence": float(confidence[inside].mean()), "accuracy": float(right[inside].mean()), "windows": int(inside.sum())}
        for k in range(bins)
        if (inside := number == k).any()
    ]


def value_counts(truth: Reals, estimate: Reals) -> list[list[int]]:
    """[truth, estimate, windows] of every pair of bins that occurs; a bin of 2 BPM goes by its middle, 61 for 60 to 62."""
    pairs = [(np.floor(part / BIN_BPM) * BIN_BPM + BIN_BPM // 2).astype(int) for part in (truth, estimate)]
    counts = Counter(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))
    return [[*pair, count] for pair, count in sorted(counts.items())]


def agreement(task: Task, outputs: Mapping[str, Reals]) -> dict[str, Any]:
    """Share of windows for which int8 answers as the float form does, and as the teacher does; `rule` says when two answers agree."""
    values = {name: estimate for name, real in outputs.items() if (estimate := _values(task, real)) is not None}
    allowed, rule = (BIN_BPM, f"within {BIN_BPM} BPM of each other") if values else (0, "the same class")
    answers = values or {name: real.argmax(axis=1) for name, real in outputs.items()}
    shares = {f"{INT8}_{name}": float((np.abs(answers[INT8] - answers[name]) <= allowed).mean()) for name in (FLOAT, TEACHER)}
    return shares | {"rule": rule}


def _with_part(portrait: Portrait, part: str, task: Task, windows: Windows, outputs: Mapping[str, Reals]) -> Portrait:
    """`portrait` with what the forms in `outputs` answer for the windows of one part."""
    values = {name: estimate for name, real in outputs.items() if (estimate := _values(task, real)) is not None}
    if values:
        truth = np.asarray(windows.y, dtype=np.float64)
        found: dict[str, dict[str, Any]] = {"values": {name: value_counts(truth, estimate) for name, estimate in values.items()}}
    else:
        y = task.classes(windows.y)
        found = {
            "confusion": {name: confusion(real.argmax(axis=1), y, len(task.labels)) for name, real in outputs.items()},
            "reliability": {name: reliability(real, y) for name, real in outputs.items()},
        }
    return portrait | {name: (portrait[name] or {}) | {part: counts} for name, counts in found.items()}


def _without_test(portrait: Portrait) -> Portrait:
    """`portrait` before the front was frozen."""
    parts = {name: found for name in COUNTS if (found := portrait[name])}
    without = {name: {part: counts for part, counts in found.items() if part != TEST} for name, found in parts.items()}
    return portrait | without | {"by_subject": {name: score for name, score in portrait["by_subject"].items() if score["part"] != TEST}}


def _values(task: Task, outputs: Reals) -> Reals | None:
    """What outputs (N, K) of a regression stand for (N,), as its metrics read them; None of a classification."""
    value = value_of(task.answers(outputs.shape[1]))
    return None if value is None else value.real(outputs)


def _by_subject(task: Task, outputs: Reals, windows: Windows, part: str) -> dict[str, dict[str, Any]]:
    """The primary metric of each subject; null where it does not exist (an AUC of one who has no such rhythm)."""
    found = {}
    for name in windows.subjects:
        index = np.flatnonzero(windows.subject == name)
        try:
            score = task.metrics(outputs[index], windows.take(index))[task.primary]
        except DataError:
            score = None
        found[name] = {INT8: score, "part": part, "windows": len(index)}
    return found


def _teacher(folder: Path, windows: Windows, task: Task) -> Reals:
    """The teacher's outputs (N, K) for `windows`, computed once for all students: a classification's calibrated.

    A value is read out at temperature 1, as the teacher's metrics are.
    """
    module, card = load_teacher(folder)
    logits = cached_outputs(folder, card.id, module, windows.seen_by_teacher).logits[0]
    return np.asarray(logits / card.calibration.temperature) if task.kind == "classification" else logits


def _hardware(folder: Path, graph: Graph, plan: Plan | None) -> Portrait:
    """Operators, memory and files, from what `folder` holds."""
    placed = tensors(graph, plan) if plan is not None else []
    rows = _bench_rows(folder, graph)
    operators = []
    for index, (node, row) in enumerate(zip(graph.nodes[1:], rows, strict=True), start=1):
        offset = plan.offsets[index] if plan is not None else ABSENT
        operators.append(
            {
                "index": index,
                "operator": OP_NAMES[type(node.op)],
                "name": name_of(node.op),
                "kernel": row.get("kernel"),
                "weights": row.get("weights"),
                "inputs": list(node.inputs),
                "shape": [node.shape.channels, node.shape.length],
                "modalities": node.shape.modalities,
                "macs": node_macs(node, graph.in_shape(node)),
                "parameters": node_weights(node, graph.in_shape(node)) + node_biases(node),
                "predicted_cycles": row.get("predicted_cycles"),
                "emulated_cycles": row.get("emulated_cycles"),
                "live_bytes": live_bytes(placed, index) if plan is not None else None,
                "offset": None if offset == ABSENT else offset,
                "bytes": align(values_bytes(node.shape)),
            }
        )
    return {
        "operators": operators,
        "arena_bytes": plan.arena_bytes if plan is not None else None,
        "tensors": [{"index": t.node, "kind": t.kind, "offset": t.offset, "bytes": t.bytes, "from": t.first, "to": t.last} for t in placed],
        "files": _files(folder),
    }


def _bench_rows(folder: Path, graph: Graph) -> list[dict[str, Any]]:
    """The rows of `bench.json`, one an operator; empty ones where there is no such file."""
    path, count = folder / "bench.json", len(graph.nodes) - 1
    if not path.exists():
        return [{}] * count
    rows = read_json(path).get("operators")
    if not isinstance(rows, list) or len(rows) != count or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path}: expected figures of {count} operators, those of {folder / storage.GRAPH_FILE}; the file is damaged")
    return rows


def _shipped_plan(folder: Path, graph: Graph) -> Plan | None:
    """The arena plan in the card in `folder`; None where it holds none, or one that is not of this graph."""
    card = read_json(folder / "card.json") if (folder / "card.json").exists() else {}
    try:
        held = card["deployment"]["plan"]
        plan = Plan(tuple(map(int, held["offsets"])), tuple(map(int, held["scratch"])), int(held["arena_bytes"]))
    except (KeyError, TypeError, ValueError):
        return None
    fits = len(plan.offsets) == len(plan.scratch) == len(graph.nodes)
    return plan if fits and all(0 <= t.offset <= plan.arena_bytes - t.bytes for t in tensors(graph, plan)) else None


def _files(folder: Path) -> list[dict[str, Any]]:
    """What ships, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OTHERS)
    return [{"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in paths]


def _empty() -> Portrait:
    return dict.fromkeys(ANSWERS)


def _read(folder: Path) -> Portrait:
    """The portrait that `write` wrote."""
    portrait = read_json(folder / PORTRAIT_FILE)
    if not (set(ANSWERS) <= portrait.keys() and isinstance(portrait["by_subject"], dict)):
        raise RunError(f"{folder / PORTRAIT_FILE}: damaged, or of another version of hwnas; delete it and continue the run with --resume")
    return portrait


def _write(folder: Path, portrait: Portrait) -> None:
    write_text(folder / PORTRAIT_FILE, json.dumps(portrait, allow_nan=False) + "\n")
