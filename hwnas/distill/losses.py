"""Distillation losses as pure functions. Torch; touches no files.

Logits of student and teacher are (B, K), `target` is int64 (B,), embeddings are (B, W); the result is a scalar, a mean over windows. A
temperature divides logits, never probabilities. No gradient flows into the teacher: what it says are numbers. `hwnas.distill.objective`
says which of these functions a combination puts together for a task.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.distill.bpm import soft_targets
from hwnas.errors import ConfigError

MAX_TEMPERATURE = 10.0
SAME = 1e-4  # windows nearer than this share of the mean distance count as one: the direction between them is rounding noise


def hard(student: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels.

    mean over windows of -sum_k q_k log softmax(s)_k, with q = (1 - e) onehot(y) + e / K and e = `label_smoothing`
    (Szegedy et al., CVPR 2016, section 7). Gradients flow into `student` (B, K).
    """
    return F.cross_entropy(student, target, label_smoothing=label_smoothing)


def hard_bpm(student: Tensor, bpm: Tensor, *, sigma_bpm: float, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, K) with Gaussian class probabilities around heart rates `bpm` (B,)."""
    return F.cross_entropy(student, soft_targets(bpm, sigma_bpm, student.shape[1]), label_smoothing=label_smoothing)


def absolute(value: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of values (B,); `target` is a number, not to be learnt."""
    return F.l1_loss(value, target.detach())


def divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """KL(softmax(t / T) || softmax(s / T)), the mean over windows; without the factor T^2."""
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher.detach() / temperature, dim=1)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)


def soft(student: Tensor, teacher: Tensor, label: Tensor, *, temperature: float, soft_weight: float) -> Tensor:
    """Response distillation (Hinton, Vinyals, Dean 2015, section 2).

    w T^2 KL(softmax(t / T) || softmax(s / T)) + (1 - w) `label`, with w = `soft_weight` on the *soft* term (0.7 to 0.9 in the
    literature on PPG, T 3 to 5) and `label` the label term, such as `hard`. T^2 keeps the size of the soft gradient, which shrinks with
    1 / T^2. Gradients flow into `student` (B, K) and `label`.

    Raises:
        ConfigError: a temperature or a weight out of range.
    """
    check_temperature(temperature)
    check_share("soft_weight", soft_weight)
    return soft_weight * temperature**2 * divergence(student, teacher, temperature=temperature) + (1.0 - soft_weight) * label


def dkd(student: Tensor, teacher: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float) -> Tensor:
    """Decoupled distillation (Zhao et al., CVPR 2022, eq. 5 to 7): T^2 (alpha TCKD + beta NCKD), without the label term.

    TCKD is the divergence of the two-way distributions (target class, all others); NCKD is the divergence of the distributions
    over the other classes alone, each normalised by itself. With p the teacher's softened target probability of a window, its
    KL = TCKD + (1 - p) NCKD. Everything is a difference of log-sum-exps, so that a saturated teacher gives no log of zero: the other
    classes are *taken out* of the softmax, not pushed down by a large constant. With two classes NCKD is zero.
    Gradients flow into `student` (B, K) only.

    Raises:
        ConfigError: a temperature out of range.
    """
    check_temperature(temperature)
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


def hint(adapted: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of an adapted student's tap and a teacher's, both (B, C, L) (FitNets: Romero et al., ICLR 2015, eq. 3)."""
    return F.mse_loss(adapted, teacher.detach())


def at_length(tap: Tensor, length: int) -> Tensor:
    """A tap (B, C, L) as (B, C, `length`), `length` <= L: neighbouring samples are averaged."""
    return tap if tap.shape[2] == length else F.adaptive_avg_pool1d(tap, length)


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances between windows (RKD-D: Park et al., CVPR 2019, eq. 5 to 7); the widths of the embeddings may differ.

    Mean over pairs i != j of Huber(|s_i - s_j| / mean |s|, |t_i - t_j| / mean |t|): the same after either side is turned or scaled.
    """
    pairs = _distinct(len(student), 2, student.device)
    with torch.no_grad():
        wanted = _relative(_distances(teacher)[1])
    return _mean(F.smooth_l1_loss(_relative(_distances(student)[1])[pairs], wanted[pairs], reduction="none"))


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Angles of triplets of windows (RKD-A: Park et al., CVPR 2019, eq. 8 to 10); the widths of the embeddings may differ.

    Mean over distinct i, j, k of Huber(cos at s_j, cos at t_j), the angle between the ways from j to i and to k.
    """
    triplets = _distinct(len(student), 3, student.device)
    with torch.no_grad():
        wanted = _cosines(teacher)
    return _mean(F.smooth_l1_loss(_cosines(student)[triplets], wanted[triplets], reduction="none"))


def _distances(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Ways from window i to window j (B, B, W), and their lengths (B, B)."""
    ways = embedding[None] - embedding[:, None]
    return ways, torch.linalg.vector_norm(ways, dim=2)


def _relative(lengths: Tensor) -> Tensor:
    """Lengths (B, B) over their mean off the diagonal; zero where all are."""
    mean = lengths.sum() / max(1, lengths.numel() - len(lengths))
    return lengths / torch.where(mean > 0, mean, 1.0)


def _cosines(embedding: Tensor) -> Tensor:
    """Cosine (B, B, B) at window j, the first index, between the ways to i and to k; 0 where one has no length."""
    ways, lengths = _distances(embedding)
    relative = _relative(lengths)
    apart = relative > SAME
    units = torch.where(apart[..., None], ways / torch.where(apart, lengths, 1.0)[..., None], 0.0)
    return units @ units.transpose(1, 2)


def _distinct(windows: int, order: int, device: torch.device) -> Tensor:
    """Where the `order` indices of a tensor (B, ...) are all different."""
    other = ~torch.eye(windows, dtype=torch.bool, device=device)
    return other if order == 2 else other[:, :, None] & other[:, None, :] & other[None]


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 of none (a batch of two windows has no triplets)."""
    return values.mean() if len(values) else values.sum()


def pulse(
    value: Tensor, label: Tensor, taught: Tensor, student: Tensor, teacher: Tensor, *, value_share: float, label_share: float
) -> Tensor:
    """PULSE's own form, for a student of one value.

    g (b L1(y, s) + (1 - b) L1(t, s)) + (1 - g) MSE(softmax(h_t), softmax(h_s)), with g = `value_share` and b = `label_share`
    (published: 2/3, 1/2), s = `value` (B,), y = `label` (B,), t = `taught` (B,), and h embeddings of one width (B, W).

    Raises:
        ConfigError: a share out of range.
    """
    check_share("value_share", value_share)
    check_share("label_share", label_share)
    values = label_share * absolute(value, label) + (1.0 - label_share) * absolute(value, taught)
    return value_share * values + (1.0 - value_share) * F.mse_loss(student.softmax(dim=1), teacher.detach().softmax(dim=1))


def check_temperature(temperature: float) -> None:
    """Raise ConfigError for a temperature that cannot teach."""
    if not 0.0 < temperature <= MAX_TEMPERATURE:
        raise ConfigError(
            f"distillation temperature {temperature:g}: allowed is above 0 and at most {MAX_TEMPERATURE:g}; beyond that the "
            "teacher's probabilities are so uniform that they say nothing about its classes. Choose 3 to 8"
        )


def check_share(name: str, share: float) -> None:
    """Raise ConfigError for a share outside 0 to 1."""
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"{name.replace('_', ' ')} {share:g}: it is a share, allowed is 0 to 1")
