"""`Objective`: what a training minimises, with the parameters of its own that it needs and that nobody keeps. Torch; touches no files.

How a loss reads labels is known by their type and the module's outputs:

- classes: y int64, outputs (B, K). The label term is cross-entropy.
- classes of heart rates: y float32 BPM, outputs (B, K), K = 180 of a teacher, or fewer and wider ones of a student, for which the
  probabilities of a teacher's classes are joined. The label term is cross-entropy with Gaussian class targets of
  `sigma_bpm`, plus `expectation_weight` times the L1 of the expectation.
- a student of one value: y float32 BPM, outputs (B, 1) on the scale of `hwnas.tasks.bpm.to_output`. The label term is L1 on that scale.

A student of one value has no classes for `soft` and `dkd` to compare. It gets a class head, 180 logits from its embedding:
    w L1(s, E[t]) + (1 - w) L1(s, y) + c `class_weight` times the loss of a class teacher on the head's logits,
with E[t] the expectation of the teacher's classes and w = `soft_weight`. The value learns from values; the head makes the embedding that
it reads tell apart what the teacher tells apart. c = `BESIDE_VALUE` brings what is no value to the size of an L1 of values; hint and
relation of such a student are multiplied by it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.distill import bpm, losses
from hwnas.distill.settings import EMBEDDING, LossSettings
from hwnas.errors import TrainingError
from hwnas.tasks.base import Kind, Labels
from hwnas.tasks.bpm import CLASSES

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d)

BESIDE_VALUE = 0.05  # an L1 is some 0.05 (4.5 BPM) where a cross-entropy is some 1
SILENT = 1e-6  # a teacher's channel that varies less has nothing to say
CHUNK = 512  # windows that statistics are taken of at a time
PROBED = 2  # windows that tell the shapes of outputs and taps


@dataclass(frozen=True, eq=False)
class Targets:
    """What a network shall answer.

    Attributes:
        y: classes (N,) int64, or heart rates in BPM (N,) float32 of a regression.
        teacher: a teacher's raw logits (N, K) float32, where the loss reads them.
        taps: a teacher's taps by name, (N, C, L) or (N, W) float32, where the loss reads them.
    """

    y: Labels
    teacher: NDArray[np.float32] | None = None
    taps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The kind of task, by the type of the labels."""
        return "regression" if np.issubdtype(self.y.dtype, np.floating) else "classification"


@dataclass(frozen=True, eq=False)
class Batch:
    """The targets of a few windows: `y` (B,), `teacher` (B, K), `taps` (B, C, L) or (B, W)."""

    y: Tensor
    teacher: Tensor | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """The sum of its terms; forward takes a module's outputs (B, K) and taps, and the `Batch`, and returns a scalar."""

    def __init__(self, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        first, *others = (term(outputs, taps, batch) for term in self.terms.values())
        total: Tensor = sum(others, first)
        return total


def objective(settings: LossSettings, module: nn.Module, sample_x: NDArray[np.float32], targets: Targets, seed: int) -> Objective:
    """The objective of `settings` for `module`, which is asked about its shapes with some windows of `sample_x` (N, C, T).

    Adapters and class heads are drawn from `seed` alone; the module and torch's global stream are left as they are.

    Raises:
        ConfigError: a loss that the kind of task does not have.
        TrainingError: teacher's outputs or taps that are missing or of another shape, a tap that the module does not have, or
            outputs that answer something else than the labels ask.
    """
    settings.allow(targets.kind)
    outputs, taps = _probe(module, sample_x)
    lesson = _Lesson(settings, outputs.shape[1], taps, targets, torch.Generator().manual_seed(seed))
    lesson.check()
    return Objective({name: TERMS[name](lesson) for name in settings.names})


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What terms are made of: who learns (its number of outputs, its taps for a few windows) what, and where weights are drawn from."""

    settings: LossSettings
    outputs: int
    taps: Mapping[str, Tensor]
    targets: Targets
    generator: torch.Generator

    @property
    def of_value(self) -> bool:
        """Whether a student of one value learns."""
        return self.targets.kind == "regression" and self.outputs == 1

    @property
    def beside(self) -> float:
        """What weights of features are multiplied by."""
        return BESIDE_VALUE if self.of_value else 1.0

    def check(self) -> None:
        """Raise TrainingError where outputs, labels and teacher do not fit each other."""
        name, y, regression = self.settings.name, self.targets.y, self.targets.kind == "regression"
        if regression and CLASSES % self.outputs:
            raise TrainingError(
                f"a network of {self.outputs} outputs for heart rates; it must answer one value, or as many classes as {CLASSES} can be "
                "joined to"
            )
        if not regression and not 0 <= y.min() <= y.max() < self.outputs:
            raise TrainingError(f"labels {y.min()} to {y.max()} for a network of {self.outputs} outputs; give it one a class")
        if self.settings.needs_teacher:
            if self.targets.teacher is None:
                raise TrainingError(f"the loss '{name}' needs a teacher's outputs; cache them first")
            answered, wanted = self.targets.teacher.shape[1], CLASSES if regression else self.outputs
            if answered != wanted:
                raise TrainingError(f"the teacher answers {answered} classes, {wanted} are to be learnt; it belongs to another task")
        for tap in self.settings.teacher_taps:
            if tap not in self.targets.taps:
                found = ", ".join(self.targets.taps) or "none"
                raise TrainingError(f"the loss '{name}' needs the teacher's tap '{tap}', given: {found}; cache it, or name another")


class _Hard(nn.Module):
    """The label term alone."""

    def __init__(self, lesson: _Lesson) -> None:
        super().__init__()
        self._settings = lesson.settings

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        return _label(outputs, batch.y, self._settings)


class _Response(nn.Module):
    """Soft or decoupled distillation with the label term, through a class head where the module answers one value."""

    def __init__(self, lesson: _Lesson) -> None:
        super().__init__()
        self._settings = lesson.settings
        self.head: nn.Linear | None = None
        if lesson.of_value:
            self.head = _drawn(nn.Linear(_embedding(lesson.taps).shape[1], CLASSES, device="meta"), lesson.generator)

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        teacher = _logits(batch)
        if self.head is None:
            return self._classes(outputs, bpm.joined(teacher, outputs.shape[1]) if batch.y.is_floating_point() else teacher, batch.y)
        value, share = outputs[:, 0], self._settings.soft_weight
        values = share * losses.absolute(value, bpm.expectation(teacher)) + (1.0 - share) * losses.absolute(value, bpm.to_output(batch.y))
        return values + BESIDE_VALUE * self._settings.class_weight * self._classes(self.head(_embedding(taps)), teacher, batch.y)

    def _classes(self, logits: Tensor, teacher: Tensor, y: Tensor) -> Tensor:
        s, label = self._settings, _label(logits, y, self._settings)
        return losses.soft(logits, teacher, label, temperature=s.temperature, soft_weight=s.soft_weight)


class _Decoupled(_Response):
    """Decoupled distillation; the target class of a heart rate is the nearest."""

    def _classes(self, logits: Tensor, teacher: Tensor, y: Tensor) -> Tensor:
        s, target = self._settings, bpm.classes(y, logits.shape[1]) if y.is_floating_point() else y
        decoupled = losses.dkd(logits, teacher, target, alpha=s.alpha, beta=s.beta, temperature=s.temperature)
        return s.soft_weight * decoupled + (1.0 - s.soft_weight) * _label(logits, y, s)


class _Hint(nn.Module):
    """A tap of the module, through a 1x1 convolution, beside a teacher's; the longer of the two is averaged in time to the shorter.

    Modalities of a tap (B, C, M, L) count as channels. The teacher's tap is standardised channel by channel over all windows.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, lesson: _Lesson) -> None:
        super().__init__()
        self._settings, self._weight = lesson.settings, lesson.settings.hint_weight * lesson.beside
        own = _channels(_tap(lesson.taps, self._settings.student_tap, "the network"))
        taught = lesson.targets.taps[self._settings.teacher_tap]
        self._length = min(own.shape[2], taught.shape[2] if taught.ndim == 3 else 1)
        mean, deviation = _statistics(taught, self._length)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > SILENT, deviation, 1.0))
        self.adapter = _drawn(nn.Conv1d(own.shape[1], taught.shape[1], 1, device="meta"), lesson.generator)

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        own = losses.at_length(_channels(_tap(taps, self._settings.student_tap, "the network")), self._length)
        taught = losses.at_length(_channels(_tap(batch.taps, self._settings.teacher_tap, "the teacher")), self._length)
        return self._weight * losses.hint(self.adapter(own), (taught - self.mean) / self.scale)


class _Relation(nn.Module):
    """Distances and angles between the windows of a batch, in the embeddings."""

    def __init__(self, lesson: _Lesson) -> None:
        super().__init__()
        _embedding(lesson.taps)
        self._weight, self._angle = lesson.settings.relation_weight * lesson.beside, lesson.settings.relation_angle

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        own, taught = _embedding(taps), _tap(batch.taps, EMBEDDING, "the teacher")
        return self._weight * (losses.distance_relation(own, taught) + self._angle * losses.angle_relation(own, taught))


class _Pulse(nn.Module):
    """PULSE's own form; embeddings of different width are compared through a linear adapter of the module's.

    Values are on the scale of a student's output, 90 BPM to 1, so embeddings weigh 90 times what they do beside an L1 in BPM:
    `value_share` 0.9945 in place of 2/3 makes the balance that of BPM.
    """

    def __init__(self, lesson: _Lesson) -> None:
        super().__init__()
        self._settings = lesson.settings
        own, taught = _embedding(lesson.taps).shape[1], lesson.targets.taps[EMBEDDING].shape[1]
        same = own == taught
        self.adapter = nn.Identity() if same else _drawn(nn.Linear(own, taught, device="meta"), lesson.generator)

    def forward(self, outputs: Tensor, taps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        value = outputs[:, 0] if outputs.shape[1] == 1 else bpm.expectation(outputs)
        label, taught = bpm.to_output(batch.y), bpm.expectation(_logits(batch))
        own, other = self.adapter(_embedding(taps)), _tap(batch.taps, EMBEDDING, "the teacher")
        s = self._settings
        return losses.pulse(value, label, taught, own, other, value_share=s.value_share, label_share=s.label_share)


TERMS: dict[str, Callable[[_Lesson], nn.Module]] = {
    "hard": _Hard,
    "soft": _Response,
    "dkd": _Decoupled,
    "hint": _Hint,
    "relation": _Relation,
    "pulse": _Pulse,
}


def _label(outputs: Tensor, y: Tensor, settings: LossSettings) -> Tensor:
    """The label term, as the head of this file has it."""
    if not y.is_floating_point():
        return losses.hard(outputs, y, label_smoothing=settings.label_smoothing)
    if outputs.shape[1] == 1:
        return losses.absolute(outputs[:, 0], bpm.to_output(y))
    loss = losses.hard_bpm(outputs, y, sigma_bpm=settings.sigma_bpm, label_smoothing=settings.label_smoothing)
    if settings.expectation_weight:
        loss = loss + settings.expectation_weight * losses.absolute(bpm.expectation(outputs), bpm.to_output(y))
    return loss


def _logits(batch: Batch) -> Tensor:
    if batch.teacher is None:
        raise TrainingError("this loss compares with a teacher, and the batch holds no outputs of one; cache them first")
    return batch.teacher


def _tap(taps: Mapping[str, Tensor], name: str, whose: str) -> Tensor:
    try:
        return taps[name]
    except KeyError:
        raise TrainingError(f"{whose} has no tap '{name}'; it has: {', '.join(taps) or 'none'}") from None


def _embedding(taps: Mapping[str, Tensor]) -> Tensor:
    """The module's embedding (B, W)."""
    return _tap(taps, EMBEDDING, "the network")


def _channels(tap: Tensor) -> Tensor:
    """A tap (B, W), (B, C, L) or (B, C, M, L) as (B, C', L)."""
    return tap.unsqueeze(2) if tap.ndim == 2 else tap.flatten(1, -2)


def _statistics(taps: NDArray[np.float32], length: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, 1) of every channel of taps (N, C, L) or (N, W), averaged in time to `length`."""
    sums = torch.zeros(2, taps.shape[1], dtype=torch.float64)
    for start in range(0, len(taps), CHUNK):
        part = losses.at_length(_channels(torch.from_numpy(taps[start : start + CHUNK].astype(np.float64))), length)
        sums += torch.stack([part.sum(dim=(0, 2)), part.square().sum(dim=(0, 2))])
    mean, square = sums / (len(taps) * length)
    return mean.float()[:, None], (square - mean**2).clamp(min=0).sqrt().float()[:, None]


def _drawn(layer: Layer, generator: torch.Generator) -> Layer:
    """A layer on the meta device as one of values: weights N(0, 1 / inputs), biases zero."""
    layer.to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.normal_(0.0, layer.weight[0].numel() ** -0.5, generator=generator)
        layer.get_parameter("bias").zero_()
    return layer


def _probe(module: nn.Module, x: NDArray[np.float32]) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Outputs and taps of `module` for a few windows; it is left in the mode that it was in."""
    was_training = module.training
    module.eval()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with torch.no_grad():
        outputs, taps = module(torch.from_numpy(x[:PROBED].copy()).to(device))
    module.train(was_training)
    return outputs, taps
