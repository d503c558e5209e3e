"""A closed-form stand-in for real training: a space, a judge and a scorer that cost microseconds. numpy; no torch, no files.

Tests and a check of an NNI installation use it. It has the features of the real problem: error falls with size and with the right
kernels, cost grows with size, some choices are inactive, and 3 candidates in 10 are over budget.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.search.verdict import Judge, Verdict
from hwnas.search.workers import Scorer

DEPTHS = [1, 2, 3, 4]
WIDTHS = [4, 8, 12, 16, 24, 32, 48, 64]
KERNELS = [3, 5, 7, 9, 11]
LIMITS = {"latency_us": 8_000.0, "ram_bytes": 2_560.0}


def space() -> dict[str, dict[str, Any]]:
    """The search space in NNI's format: a depth, and a width and a kernel for each of four layers (10 million points)."""
    entries: dict[str, list[int]] = {"depth": DEPTHS}
    for layer in range(1, max(DEPTHS) + 1):
        entries |= {f"width{layer}": WIDTHS, f"kernel{layer}": KERNELS}
    return {name: {"_type": "choice", "_value": values} for name, values in entries.items()}


def active(parameters: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """(width, kernel) of the layers that exist."""
    return tuple((parameters[f"width{i}"], parameters[f"kernel{i}"]) for i in range(1, parameters["depth"] + 1))


@dataclass(frozen=True)
class ToyJudge:
    """Cost by simple sums; limits scaled by `allowance` (small values leave few candidates or none)."""

    allowance: float = 1.0

    def __call__(self, parameters: Mapping[str, Any]) -> Verdict:
        layers = active(parameters)
        pairs = list(pairwise([1, *(w for w, _ in layers)]))
        weights = sum(a * b * k for (a, b), (_, k) in zip(pairs, layers, strict=True))
        cost = {
            "latency_us": float(weights),
            "ram_bytes": 32.0 * max(a + b for a, b in pairs),
            "flash_bytes": float(weights + 40 * len(layers)),
        }
        limits = {name: limit * self.allowance for name, limit in LIMITS.items()}
        name = hashlib.sha256(repr(layers).encode()).hexdigest()[:12]
        return Verdict(name, cost, {n: (cost[n], limit) for n, limit in limits.items() if cost[n] > limit})


@dataclass(frozen=True)
class ToyScorer:
    """Error from the architecture, with a little noise from the seed. Sleeps `seconds`, standing for training."""

    seconds: float = 0.0

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        time.sleep(self.seconds)
        capacity = sum(math.log2(width) - 0.75 * abs(kernel - 7) for width, kernel in active(parameters))
        noise = float(np.random.default_rng(seed).normal(0, 0.002))
        return {"error": 0.05 + 0.4 * math.exp(-max(capacity, 0) / 6) + abs(noise), "capacity": capacity}


def make_judge(_: Path) -> Judge:
    """The judge as an NNI experiment asks for it."""
    return ToyJudge()


def make_scorer(_: Path) -> Scorer:
    """The scorer as an NNI experiment asks for it."""
    return ToyScorer()
