"""`ship`: the int8 form that leaves the house. PTQ; QAT where PTQ loses too much; a classifier's head calibrated. torch; no files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.errors import QuantizationError, TrainingError
from hwnas.metrics import ece, nll
from hwnas.quantize import reference
from hwnas.quantize.probabilities import with_temperature
from hwnas.quantize.ptq import DEFAULT, PtqSettings, quantize
from hwnas.quantize.qat import QuantStudent
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import score_outputs
from hwnas.quantize.sensitivity import POINTS, Sensitivity, sensitivity
from hwnas.quantize.values import value_of
from hwnas.student import Student
from hwnas.tasks.base import Task, Windows
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import fit_temperature
from hwnas.train import Recipe, Targets, fit

ALSO_WATCHED = ("accuracy",)  # beside a task's own error, where a task has them
Metrics = dict[str, float]
Method = Literal["ptq", "qat"]


@dataclass(frozen=True, slots=True)
class Confidence:
    """What the head's temperature does to the probabilities, on the validation subjects."""

    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Shipped:
    """A student's int8 form, and what it was chosen on: metrics on the validation subjects.

    Every form is read at the same temperature: of more than two classes it decides how the evidence for the others adds up, so it
    moves the order of windows too. A regression is left as it is, also where it answers by classes of its value: its temperature is 1.

    Attributes:
        q: the student, its head at `temperature`.
        student: the float student, its head at `temperature` as well.
        method: how its integers were found.
        temperature: what logits are divided by, so that softmax of them is calibrated.
        float_metrics, ptq, qat, shipped: of `student`, of PTQ, of QAT where it was tried, of `q`.
        confidence: of a classifier.
        sensitivity: what int8 costs layer by layer (by PTQ).
        reason: why this method, in a sentence; its figures were read at the temperature of PTQ.
        settings: of PTQ.
    """

    q: QuantGraph
    student: Student
    method: Method
    temperature: float
    float_metrics: Metrics
    ptq: Metrics
    qat: Metrics | None
    shipped: Metrics
    confidence: Confidence | None
    sensitivity: tuple[Sensitivity, ...]
    reason: str
    settings: PtqSettings


def ship(
    student: Student,
    lessons: tuple[NDArray[np.float32], Targets],
    validation: Windows,
    task: Task,
    recipe: Recipe,
    *,
    calibration_x: NDArray[np.float32],
    seed: int,
    settings: PtqSettings = DEFAULT,
) -> Shipped:
    """PTQ with ranges of `calibration_x`, or QAT by `recipe` on `lessons` where PTQ loses more than the task allows and QAT does better.

    Raises:
        QuantizationError: the student has no int8 form.
        DataError: it has another number of outputs than students of the task have.
    """
    classifier = task.kind == "classification"
    labels = task.answers(student.graph.output_shape.elements)
    real = predict(student, validation.x)
    forms: dict[Method, QuantGraph] = {"ptq": quantize(student, calibration_x, labels, settings)}
    x = reference.quantize_input(forms["ptq"], validation.x)
    outputs: dict[Method, Int8] = {"ptq": reference.run(forms["ptq"], x)}

    def at(form: Method, temperature: float) -> QuantGraph:
        """A form as it ships."""
        return with_temperature(forms[form], temperature) if classifier else forms[form]

    def metrics(temperature: float) -> dict[str, Metrics]:
        found = {"float": task.metrics(real / temperature, validation)}
        for name in forms:
            found[name] = score_outputs(at(name, temperature), outputs[name], validation, task)
        return found

    def temper(form: Method) -> tuple[float, Confidence | None]:
        """A classifier's temperature by one of its forms."""
        return calibrate(forms[form], outputs[form], task.classes(validation.y)) if classifier else (1.0, None)

    temperature, confidence = temper("ptq")
    found = metrics(temperature)
    method: Method = "ptq"
    failure = ""
    if max(_lost(found, "ptq", task).values()) > task.loss_allowed:
        try:
            forms["qat"] = train_integers(forms["ptq"], lessons, recipe, seed)
        except (QuantizationError, TrainingError) as error:
            failure = str(error)
        else:
            outputs["qat"] = reference.run(forms["qat"], x)
            found = metrics(temperature)
            if _better(_lost(found, "qat", task), _lost(found, "ptq", task), task.loss_allowed):
                method = "qat"
    reason = _reason(method, found, task, failure)
    if method == "qat":
        temperature, confidence = temper("qat")
        found = metrics(temperature)
    cooled = with_head_at(student, temperature) if classifier else copy.deepcopy(student).eval()
    return Shipped(
        q=at(method, temperature),
        student=cooled,
        method=method,
        temperature=temperature,
        float_metrics=found["float"],
        ptq=found["ptq"],
        qat=found.get("qat"),
        shipped=found[method],
        confidence=confidence,
        sensitivity=sensitivity(cooled, at("ptq", temperature), validation, task),
        reason=reason,
        settings=settings,
    )


def train_integers(q: QuantGraph, lessons: tuple[NDArray[np.float32], Targets], recipe: Recipe, seed: int) -> QuantGraph:
    """`q` after quantisation-aware training; raises TrainingError where that diverges."""
    module = QuantStudent(q)
    fit(module, *lessons, recipe, seed=seed)
    return module.quant_graph()


def calibrate(q: QuantGraph, outputs: Int8, y: NDArray[np.int64]) -> tuple[float, Confidence]:
    """The temperature at which softmax of the logits of `outputs` (N, K) is calibrated for classes `y` (N,), and what it changes."""
    logits = reference.dequantize_output(q, outputs)
    temperature = fit_temperature(logits, y)
    scaled = logits / temperature
    return temperature, Confidence(nll(logits, y), nll(scaled, y), ece(logits, y), ece(scaled, y))


def with_head_at(student: Student, temperature: float) -> Student:
    """A copy of `student` in eval mode with its logits divided by `temperature`, in the weights of its dense head."""
    cooled = copy.deepcopy(student).eval()
    head = cooled.nodes[str(len(student.graph.nodes) - 1)]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.div_(temperature)
    return cooled


def _lost(found: Mapping[str, Metrics], form: str, task: Task) -> Metrics:
    """What `form` loses against float, by metric: growth of the task's error under its primary's name, and other scores' fall."""
    before, after = found["float"], found[form]
    lost = {task.primary: task.error(after) - task.error(before)}
    return lost | {name: before[name] - after[name] for name in ALSO_WATCHED if name in before and name != task.primary}


def _better(a: Metrics, b: Metrics, allowed: float) -> bool:
    """Whether losses `a` beat `b` in the first metric that tells them apart by more than `allowed`, or else in the first of them."""
    clear = [name for name in a if abs(a[name] - b[name]) > allowed]
    name = clear[0] if clear else next(iter(a))
    return a[name] < b[name]


def _reason(method: Method, found: Mapping[str, Metrics], task: Task, failure: str) -> str:
    value = value_of(task.outputs)
    scale, unit = (1.0, value.unit) if value else (POINTS, "points")
    costs = {
        form: " and ".join(f"{scale * lost:.2f} {unit} of {name}" for name, lost in _lost(found, form, task).items())
        for form in found
        if form != "float"
    }
    if "qat" in costs:
        return f"PTQ costs {costs['ptq']}, QAT {costs['qat']}: {method.upper()} is shipped"
    rest = f"QAT was not possible: {failure}" if failure else f"{scale * task.loss_allowed:g} are allowed"
    return f"PTQ costs {costs['ptq']}; {rest}"
