"""Distillation losses as pure functions, and the table of their names. Torch; touches no files.

Logits of student and teacher are (B, K), `target` is int64 (B,), the result is a scalar. A temperature divides logits, never
probabilities. No gradient flows into the teacher: its logits are cached numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.errors import ConfigError, lookup

MAX_TEMPERATURE = 10.0


def hard(student: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels.

    mean over windows of -sum_k q_k log softmax(s)_k, with q = (1 - e) onehot(y) + e / K and e = `label_smoothing`
    (Szegedy et al., CVPR 2016, section 7). Gradients flow into `student` (B, K).
    """
    return F.cross_entropy(student, target, label_smoothing=label_smoothing)


def soft(student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float, soft_weight: float) -> Tensor:
    """Response distillation (Hinton, Vinyals, Dean 2015, section 2).

    w T^2 KL(softmax(t / T) || softmax(s / T)) + (1 - w) CE(s, y), with w = `soft_weight` on the *soft* term (0.7 to 0.9 in the
    literature on PPG, T 3 to 5). T^2 keeps the size of the soft gradient, which shrinks with 1 / T^2. Gradients flow into
    `student` (B, K) only.

    Raises:
        ConfigError: a temperature or a weight out of range.
    """
    _check(temperature, soft_weight)
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    return soft_weight * temperature**2 * divergence + (1.0 - soft_weight) * hard(student, target)


def dkd(student: Tensor, teacher: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float) -> Tensor:
    """Decoupled distillation (Zhao et al., CVPR 2022, eq. 5 to 7): T^2 (alpha TCKD + beta NCKD), without the label term.

    TCKD is the divergence of the two-way distributions (target class, all others); NCKD is the divergence of the distributions
    over the other classes alone, each normalised by itself. With p the teacher's target probability, KL = TCKD + (1 - p) NCKD.
    Everything is a difference of log-sum-exps, so that a saturated teacher gives no log of zero: the other classes are
    *taken out* of the softmax, not pushed down by a large constant. With two classes NCKD is zero.
    Gradients flow into `student` (B, K) only.

    Raises:
        ConfigError: a temperature out of range.
    """
    _check(temperature, 1.0)
    target_s, other_s = _decouple(student / temperature, target)
    target_t, other_t = _decouple(teacher.detach() / temperature, target)
    tckd = F.kl_div(target_s, target_t, reduction="batchmean", log_target=True)
    nckd = F.kl_div(other_s, other_t, reduction="batchmean", log_target=True)
    return temperature**2 * (alpha * tckd + beta * nckd)


def _decouple(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, others): (B, 2), and of the other classes among themselves: (B, K - 1)."""
    rows, classes = logits.shape
    is_target = F.one_hot(target, classes).bool()
    others = logits[~is_target].view(rows, classes - 1)
    two_way = torch.stack([logits[is_target], others.logsumexp(dim=1)], dim=1)
    return F.log_softmax(two_way, dim=1), F.log_softmax(others, dim=1)


def _check(temperature: float, soft_weight: float) -> None:
    if not 0.0 < temperature <= MAX_TEMPERATURE:
        raise ConfigError(
            f"distillation temperature {temperature:g}: allowed is above 0 and at most {MAX_TEMPERATURE:g}; beyond that the "
            "teacher's probabilities are so uniform that they say nothing about its classes. Choose 3 to 8"
        )
    if not 0.0 <= soft_weight <= 1.0:
        raise ConfigError(f"soft weight {soft_weight:g}: it is a share, from 0 (labels only) to 1 (teacher only)")


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Name and numbers of a loss, as a recipe and a run's configuration hold them.

    Raises:
        ConfigError: an unknown name, or a number out of range.
    """

    name: str = "hard"
    temperature: float = 4.0
    soft_weight: float = 0.8
    alpha: float = 1.0
    beta: float = 2.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        lookup(LOSSES, self.name, "loss")
        _check(self.temperature, self.soft_weight)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigError(f"label smoothing {self.label_smoothing:g}: allowed is 0 to below 1; 0.05 is usual")

    def allow(self, kind: str) -> None:
        """Raise ConfigError where tasks of `kind` cannot be trained with this loss."""
        kinds = LOSSES[self.name].kinds
        if kind not in kinds:
            needed = " or ".join(sorted(kinds))
            raise ConfigError(f"loss '{self.name}' needs a task of kind {needed}, this one is '{kind}'; choose another loss")


Compute = Callable[[Tensor, Tensor | None, Tensor, LossSettings], Tensor]


def _hard(student: Tensor, teacher: Tensor | None, target: Tensor, s: LossSettings) -> Tensor:
    return hard(student, target, label_smoothing=s.label_smoothing)


def _soft(student: Tensor, teacher: Tensor | None, target: Tensor, s: LossSettings) -> Tensor:
    return soft(student, _present(teacher), target, temperature=s.temperature, soft_weight=s.soft_weight)


def _dkd(student: Tensor, teacher: Tensor | None, target: Tensor, s: LossSettings) -> Tensor:
    decoupled = dkd(student, _present(teacher), target, alpha=s.alpha, beta=s.beta, temperature=s.temperature)
    return s.soft_weight * decoupled + (1.0 - s.soft_weight) * hard(student, target)


def _present(teacher: Tensor | None) -> Tensor:
    if teacher is None:
        raise ConfigError("this loss compares with a teacher, and no outputs of one were given; cache them or use 'hard'")
    return teacher


@dataclass(frozen=True, slots=True)
class Loss:
    """One row of the table: the function, whether it reads a teacher, and the task kinds that it allows."""

    compute: Compute
    needs_teacher: bool
    kinds: frozenset[str]


LOSSES: dict[str, Loss] = {
    "hard": Loss(_hard, needs_teacher=False, kinds=frozenset({"classification"})),
    "soft": Loss(_soft, needs_teacher=True, kinds=frozenset({"classification"})),
    "dkd": Loss(_dkd, needs_teacher=True, kinds=frozenset({"classification"})),
}
