"""Heart rate in a loss: what `hwnas.tasks.bpm` does to arrays, done to tensors that gradients flow through. Torch; touches no files."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.tasks.bpm import CENTRE_BPM, CLASSES, LOWEST_BPM, SPAN_BPM, values_bpm


def to_output(bpm: Tensor) -> Tensor:
    """Heart rates in BPM on the scale of a student's output."""
    return (bpm - CENTRE_BPM) / SPAN_BPM


def classes(bpm: Tensor, count: int = CLASSES) -> Tensor:
    """Class (B,) int64 of heart rates (B,) among `count`: the nearest, the first and the last for what lies beyond."""
    return (bpm.round() - LOWEST_BPM).clamp(0, CLASSES - 1).long() // (CLASSES // count)


def soft_targets(bpm: Tensor, sigma_bpm: float, count: int = CLASSES) -> Tensor:
    """Gaussian class probabilities (B, count) around heart rates (B,), each row summing to 1."""
    return torch.softmax(-0.5 * ((_values(bpm, count) - bpm[:, None]) / sigma_bpm) ** 2, dim=1)


def joined(logits: Tensor, count: int) -> Tensor:
    """Logits (B, count) of wider classes, from those (B, 180) of 1 BPM: the sum of the probabilities of those that are joined."""
    return logits if logits.shape[1] == count else logits.reshape(len(logits), count, -1).logsumexp(dim=2)


def expectation(logits: Tensor) -> Tensor:
    """The mean (B,) of the classes under softmax(`logits` (B, K)), on the scale of a student's output."""
    return to_output(logits.softmax(dim=1) @ _values(logits, logits.shape[1]))


def _values(like: Tensor, count: int) -> Tensor:
    return torch.from_numpy(values_bpm(count)).to(like)
