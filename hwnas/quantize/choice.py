"""`ship`: the int8 form that leaves the house. PTQ; QAT where PTQ loses too much; then a calibrated head. torch; no files."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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
from hwnas.quantize.sensitivity import Sensitivity, sensitivity
from hwnas.student import Student
from hwnas.tasks.base import Task, Windows
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import fit_temperature
from hwnas.train import Recipe, Targets, fit

LOSS_ALLOWED = 0.002  # of a metric between 0 and 1: 0.2 points
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
    moves the order of windows too.

    Attributes:
        q: the student, its head at `temperature`.
        student: the float student, its head at `temperature` as well.
        method: how its integers were found.
        temperature: what logits are divided by, so that softmax of them is calibrated.
        float_metrics, ptq, qat, shipped: of `student`, of PTQ, of QAT where it was tried, of `q`.
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
    confidence: Confidence
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
    """PTQ with ranges of `calibration_x`, or QAT by `recipe` on `lessons` where PTQ loses more than 0.2 points and QAT does better.

    Raises:
        QuantizationError: the student has no int8 form.
    """
    logits = predict(student, validation.x)
    forms: dict[Method, QuantGraph] = {"ptq": quantize(student, calibration_x, task.labels, settings)}
    x = reference.quantize_input(forms["ptq"], validation.x)
    outputs = {"ptq": reference.run(forms["ptq"], x)}

    def metrics(temperature: float) -> dict[str, Metrics]:
        found = {"float": task.metrics(logits / temperature, validation)}
        for name, q in forms.items():
            found[name] = score_outputs(with_temperature(q, temperature), outputs[name], validation, task)
        return found

    temperature, confidence = calibrate(forms["ptq"], outputs["ptq"], task.classes(validation.y))
    found = metrics(temperature)
    watched = [name for name in (task.primary, "accuracy") if name in found["float"]]
    method: Method = "ptq"
    failure = ""
    if max(_lost(found, "ptq", watched).values()) > LOSS_ALLOWED:
        try:
            forms["qat"] = train_integers(forms["ptq"], lessons, recipe, seed)
        except (QuantizationError, TrainingError) as error:
            failure = str(error)
        else:
            outputs["qat"] = reference.run(forms["qat"], x)
            found = metrics(temperature)
            if _better(found["qat"], found["ptq"], watched):
                method = "qat"
    reason = _reason(method, found, watched, failure)
    if method == "qat":
        temperature, confidence = calibrate(forms["qat"], outputs["qat"], task.classes(validation.y))
        found = metrics(temperature)
    cooled, by_ptq = with_head_at(student, temperature), with_temperature(forms["ptq"], temperature)
    return Shipped(
        q=with_temperature(forms[method], temperature),
        student=cooled,
        method=method,
        temperature=temperature,
        float_metrics=found["float"],
        ptq=found["ptq"],
        qat=found.get("qat"),
        shipped=found[method],
        confidence=confidence,
        sensitivity=sensitivity(cooled, by_ptq, validation, task),
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


def _lost(found: Mapping[str, Metrics], form: str, watched: Sequence[str]) -> dict[str, float]:
    return {name: found["float"][name] - found[form][name] for name in watched}


def _better(a: Metrics, b: Metrics, watched: Sequence[str]) -> bool:
    """Whether `a` beats `b` in the first metric that tells them apart by more than what may be lost, or else in the first of them."""
    clear = [name for name in watched if abs(a[name] - b[name]) > LOSS_ALLOWED]
    name = clear[0] if clear else watched[0]
    return a[name] > b[name]


def _reason(method: Method, found: Mapping[str, Metrics], watched: Sequence[str], failure: str) -> str:
    costs = {
        form: " and ".join(f"{100 * value:.2f} points of {name}" for name, value in _lost(found, form, watched).items())
        for form in found
        if form != "float"
    }
    if "qat" in costs:
        return f"PTQ costs {costs['ptq']}, QAT {costs['qat']}: {method.upper()} is shipped"
    return f"PTQ costs {costs['ptq']}" + (f"; QAT was not possible: {failure}" if failure else f"; {100 * LOSS_ALLOWED:g} are allowed")
