"""A closed-form stand-in for real training: a space, a judge and a scorer that cost microseconds. numpy; no torch, no files.

Tests and a check of an NNI installation use it. It has the features of the real problem: error falls with size and with the right
kernels, cost grows with size, some choices are inactive, and 3 candidates in 10 are over budget. Several families, of which each is
the best one somewhere, may be searched as one space.
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

from hwnas.search.verdict import Active, Judge, Verdict
from hwnas.search.workers import Scorer
from hwnas.space.joint import FAMILY_CHOICE

DEPTHS = [1, 2, 3, 4]
WIDTHS = [4, 8, 12, 16, 24, 32, 48, 64]
KERNELS = [3, 5, 7, 9, 11]
LIMITS = {"latency_us": 8_000.0, "ram_bytes": 2_560.0}


@dataclass(frozen=True, slots=True)
class Family:
    """What a layer costs and is worth, relative to the plain family, and the error that the best network keeps."""

    cost: float
    worth: float
    floor: float


PLAIN = "plain"
FAMILIES = {PLAIN: Family(1.0, 1.0, 0.05), "slim": Family(0.4, 0.7, 0.1), "heavy": Family(5.0, 1.7, 0.02)}


def space() -> dict[str, dict[str, Any]]:
    """The plain family in NNI's format: a depth, and a width and a kernel for each of four layers (10 million points)."""
    entries: dict[str, list[int]] = {"depth": DEPTHS}
    for layer in range(1, max(DEPTHS) + 1):
        entries |= {f"width{layer}": WIDTHS, f"kernel{layer}": KERNELS}
    return {name: {"_type": "choice", "_value": values} for name, values in entries.items()}


def joint_space() -> dict[str, dict[str, Any]]:
    """All families as one space, named as `hwnas.space.joint` names them."""
    families: dict[str, dict[str, Any]] = {FAMILY_CHOICE: {"_type": "choice", "_value": list(FAMILIES)}}
    return families | {f"{family}.{name}": entry for family in FAMILIES for name, entry in space().items()}


def active(parameters: Mapping[str, Any]) -> set[str]:
    """The choices that count: those of the layers that exist, in the family that is chosen."""
    prefix = f"{parameters[FAMILY_CHOICE]}." if FAMILY_CHOICE in parameters else ""
    depth = range(1, parameters[f"{prefix}depth"] + 1)
    names = {f"{prefix}{name}" for name in ("depth", *(f"{kind}{i}" for i in depth for kind in ("width", "kernel")))}
    return names | {FAMILY_CHOICE} if prefix else names


def network(parameters: Mapping[str, Any]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """(family, (width, kernel) of the layers that exist)."""
    family = parameters.get(FAMILY_CHOICE, PLAIN)
    own = {name.removeprefix(f"{family}."): value for name, value in parameters.items()}
    return family, tuple((own[f"width{i}"], own[f"kernel{i}"]) for i in range(1, own["depth"] + 1))


@dataclass(frozen=True)
class ToyJudge:
    """Cost by simple sums; limits scaled by `allowance` (small values leave few candidates or none)."""

    allowance: float = 1.0

    def __call__(self, parameters: Mapping[str, Any]) -> Verdict:
        family, layers = network(parameters)
        pairs = list(pairwise([1, *(w for w, _ in layers)]))
        weights = round(FAMILIES[family].cost * sum(a * b * k for (a, b), (_, k) in zip(pairs, layers, strict=True)))
        cost = {
            "latency_us": float(weights),
            "ram_bytes": 32.0 * max(a + b for a, b in pairs),
            "flash_bytes": float(weights + 40 * len(layers)),
        }
        limits = {name: limit * self.allowance for name, limit in LIMITS.items()}
        name = hashlib.sha256(repr((family, layers)).encode()).hexdigest()[:12]
        return Verdict(name, cost, {n: (cost[n], limit) for n, limit in limits.items() if cost[n] > limit}, family)


@dataclass(frozen=True)
class ToyScorer:
    """Error from the architecture, with a little noise from the seed. Sleeps `seconds`, standing for training."""

    seconds: float = 0.0

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        time.sleep(self.seconds)
        name, layers = network(parameters)
        family = FAMILIES[name]
        capacity = family.worth * sum(math.log2(width) - 0.75 * abs(kernel - 7) for width, kernel in layers)
        noise = float(np.random.default_rng(seed).normal(0, 0.002))
        return {"error": family.floor + 0.4 * math.exp(-max(capacity, 0) / 6) + abs(noise), "capacity": capacity}


def make_judge(_: Path) -> Judge:
    """The judge as an NNI experiment asks for it."""
    return ToyJudge()


def make_active(_: Path) -> Active:
    """What tells active choices, as an NNI experiment asks for it."""
    return active


def make_scorer(_: Path) -> Scorer:
    """The scorer as an NNI experiment asks for it."""
    return ToyScorer()
