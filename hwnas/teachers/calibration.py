"""Temperature calibration of a teacher, what follows from it, and when it went wrong. numpy and scipy; no torch, no files.

Temperature scaling: Guo et al., ICML 2017, section 4.2. Raw logits are kept everywhere; a temperature is applied where needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from hwnas.metrics import ece, entropy_bits, nll

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

TEMPERATURES = (0.05, 20.0)
BORDERLINE_MARGIN = 0.2  # the one definition: the two likeliest classes are less than this apart in probability
BORDERLINE_BITS = 0.3
DISTILLATION = (3.0, 8.0)
MAX_TEMPERATURE = 10.0  # above it soft labels are so uniform that they say nothing; a student may not be distilled there either
MAX_ECE = 0.05
FEW_WINDOWS, FEW_SUBJECTS = 200, 5  # an ECE of fewer is mostly noise: a bin holds a dozen windows
ABOVE = 1.25  # "a little above the calibration temperature"


def fit_temperature(logits: Floats, y: Ints) -> float:
    """The temperature that minimises the NLL of softmax(`logits` (N, K) / T) for labels `y` (N,), within 0.05 to 20.

    The NLL is convex in 1 / T, so one bounded scalar search finds the minimum.

    Raises:
        DataError: no windows, or logits that are not finite.
    """
    low, high = (1.0 / t for t in reversed(TEMPERATURES))
    scaled = np.asarray(logits, dtype=np.float64)

    def loss(inverse: float) -> float:
        return nll(scaled * inverse, y)

    return float(1.0 / minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)


def borderline(logits: Floats, temperature: float = 1.0) -> NDArray[np.bool_]:
    """Which windows (N,) are borderline: top-2 probability margin of softmax(`logits` / `temperature`) below 0.2."""
    ordered = np.sort(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2] < BORDERLINE_MARGIN)


@dataclass(frozen=True, slots=True)
class EntropyCheck:
    """Mean entropy in bits of the borderline windows among `windows`; fails below 0.3 bits or where none is borderline."""

    windows: int
    borderline: int
    mean_bits: float | None
    passed: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature, figures before and after it on the validation subjects, and the check of the soft labels.

    `doubts` are sentences on what went wrong, and why it may have.
    """

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    entropy_validation: EntropyCheck
    entropy_targets: EntropyCheck
    distillation_temperature: float
    doubts: tuple[str, ...] = ()


def check_entropy(logits: Floats, temperature: float, where: str) -> EntropyCheck:
    """Are soft labels informative where they should be? Borderline windows among `logits` (N, K), at `temperature`."""
    marked = borderline(logits, temperature)
    count, total = int(marked.sum()), len(marked)
    share = f"{count} of {total} {where} windows are borderline (top-2 margin below {BORDERLINE_MARGIN:g})"
    if not count:
        return EntropyCheck(total, 0, None, False, f"failed: {share}; the teacher hesitates nowhere, its soft labels add little")
    bits = float(entropy_bits(np.asarray(logits, dtype=np.float64)[marked] / temperature).mean())
    passed = bits > BORDERLINE_BITS
    word, sign = ("passed", "above") if passed else ("failed", "not above")
    return EntropyCheck(total, count, bits, passed, f"{word}: {share}, mean entropy {bits:.2f} bits, {sign} {BORDERLINE_BITS:g}")


def distillation_temperature(temperature: float) -> float:
    """A quarter above the calibration temperature, within 3 to 8."""
    low, high = DISTILLATION
    return float(np.clip(ABOVE * temperature, low, high))


def calibrate(validation: Floats, y: Ints, targets: Floats, *, subjects: int | None = None, where: str = "training") -> Calibration:
    """Calibrate on raw `validation` logits (N, K) with labels `y`; check entropy there and on `targets` (M, K).

    `targets` are the logits that students learn from, before any temperature, and `where` says which windows they are of; `subjects`
    is how many the validation windows are of.

    Raises:
        DataError: no windows, or logits that are not finite.
    """
    temperature = fit_temperature(validation, y)
    scaled = np.asarray(validation, dtype=np.float64) / temperature
    after = ece(scaled, y)
    return Calibration(
        temperature=temperature,
        nll_before=nll(validation, y),
        nll_after=nll(scaled, y),
        ece_before=ece(validation, y),
        ece_after=after,
        entropy_validation=check_entropy(validation, temperature, "validation"),
        entropy_targets=check_entropy(targets, temperature, where),
        distillation_temperature=distillation_temperature(temperature),
        doubts=_doubts(temperature, scaled, y, after, subjects),
    )


def _doubts(temperature: float, scaled: Floats, y: Ints, after: float, subjects: int | None) -> tuple[str, ...]:
    """What is wrong with a calibration whose logits `scaled` (N, K) reach the ECE `after`, and the likeliest reason."""
    found = []
    if temperature > MAX_TEMPERATURE:
        found.append(
            f"calibration temperature {temperature:.3g}, above {MAX_TEMPERATURE:g}: the network is sure of far more than it knows of the "
            "validation subjects; it learned its training subjects by heart. Train it on more subjects, shorter, or with more augmentation"
        )
    if after > MAX_ECE:
        found.append(f"ECE {after:.3f} after calibration, above {MAX_ECE:g}: {_reason(scaled, y, subjects)}")
    return tuple(found)


def _reason(scaled: Floats, y: Ints, subjects: int | None) -> str:
    """The likeliest reason why calibrated logits (N, K) are still wrong about themselves."""
    if len(y) < FEW_WINDOWS or (subjects is not None and subjects < FEW_SUBJECTS):
        of = "" if subjects is None else f" of {subjects} subject(s)"
        return f"{len(y)} validation windows{of} are few, and part of it is noise; validate on more subjects"
    sure = float(softmax(scaled, axis=1).max(axis=1).mean() - (np.asarray(scaled).argmax(axis=1) == y).mean())
    if abs(sure) > MAX_ECE / 2:
        return f"it stays {'over' if sure > 0 else 'under'}-confident by {abs(sure):.2f}: how hard the windows are shifts between subjects"
    return "one temperature does not make classes right that are over-confident and under-confident apart"
