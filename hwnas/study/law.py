"""Scaling laws: error against capacity, with intervals, with checks that can fail, and with reasons where there is no law. Numpy only.

A law has one term for each capacity:

    error = floor + sum over t of scale_t * (size_t / centre_t) ** -exponent_t

with one term the power law of Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.1) with the floor that Hoffmann et al. 2022 give it, with two
their eq. 2 (arXiv 2203.15556), in which the teacher's parameters stand where they have tokens. Sweeping teachers and students
for distilled heart-rate models follows Arora et al. 2025 (arXiv 2511.18829). `centre` is the geometric mean of the sizes that were tried:
scale and exponent hardly depend on each other there.

Fitted on log errors with a loss that grows linearly for outliers (one training that failed must not bend the curve). An interval holds
three sources of doubt: seeds, test subjects where errors of resampled subjects are given, and how far sizes stray from the law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
DRAWS = 400
PERMUTATIONS = 9999
CHANCE = 0.05  # a trend that chance shows more often than that is none
FEWEST_STUDENTS, FEWEST_TEACHERS = 4, 3
EXPONENTS = 0.02, 3.0
LEAST_SPREAD = 0.005  # of log errors: half a percent is below what any test set resolves
NOTABLE = 1e-6  # share of the cost: smaller gains move no digit that is shown
LEAST_CHISQUARE = 0.01  # a draw from fewer says nothing but that anything is possible
STEPS, IDLE_STEPS = 60, 4


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Check(NamedTuple):
    """A size that a law fitted on smaller ones alone was asked about.

    Attributes:
        fitted_to: largest size that the law was fitted on.
        size: size that it predicts.
        predicted: mean error of as many trainings of that size as there were.
        found: geometric mean of the errors found there.
        seed_errors: the difference of their logarithms in standard errors of the seeds.
        holds: whether what was found lies within the predicted interval.
    """

    fitted_to: float
    size: float
    predicted: Estimate
    found: float
    seed_errors: float | None
    holds: bool


@dataclass(frozen=True)
class Refused:
    """There is no law, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law.

    Attributes:
        names: what each capacity is.
        centres, ranges: of each capacity.
        floor, scales, exponents: the parameters; see the module.
        chance: how often shuffled sizes show a trend as strong, the largest over the capacities.
        seed_spread, misfit: standard deviations of log errors between seeds, and of sizes about the law beyond that.
        plateau: size of the first capacity from which on errors are within the seeds' doubt of the largest's; None where they still fall.
        checks: how the law predicts its own largest sizes; empty where there are too few.
        draws: parameters (B, 1 + 2 T) of the bootstrap: floor, then scale and exponent of each term.
        paired_draws: the same for these very test subjects: what a comparison of laws on the same subjects needs.
    """

    names: tuple[str, ...]
    centres: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    floor: Estimate
    scales: tuple[Estimate, ...]
    exponents: tuple[Estimate, ...]
    chance: float
    seed_spread: float
    misfit: float
    plateau: float | None
    checks: tuple[Check, ...]
    draws: Floats
    paired_draws: Floats

    @property
    def formula(self) -> str:
        """The law in one line."""
        terms = [
            f"{scale.value:.4g} ({name} / {centre:,.0f})^-{exponent.value:.2f}"
            for name, centre, scale, exponent in zip(self.names, self.centres, self.scales, self.exponents, strict=True)
        ]
        return " + ".join([f"error = {self.floor.value:.4g}", *terms])

    @property
    def holds(self) -> bool | None:
        """Whether it predicts its largest size from the smaller ones; None where that could not be asked."""
        return self.checks[-1].holds if self.checks else None

    def error(self, sizes: Floats) -> Floats:
        """The error (R,) at capacities (R, T)."""
        flat = [self.floor.value, *(each.value for pair in zip(self.scales, self.exponents, strict=True) for each in pair)]
        return np.asarray(self._of(np.array([flat]), sizes)[0])

    def band(self, sizes: Floats, trainings: int = 0, *, paired: bool = False) -> tuple[Floats, Floats]:
        """The 95 % interval (R,), (R,) of the law at capacities (R, T), or of the mean of so many new trainings of one network there.

        With `paired` it is for these very test subjects.
        """
        errors = self._of(self.paired_draws if paired else self.draws, sizes)
        if trainings:
            spread = float(np.hypot(self.seed_spread / np.sqrt(trainings), self.misfit))
            errors = errors * np.exp(spread * np.random.default_rng(0).standard_normal(errors.shape))
        low, high = np.quantile(errors, _tails(), axis=0)
        return low, high

    def as_dict(self) -> dict[str, Any]:
        """Everything but draws, as JSON can hold it."""
        return {
            "formula": self.formula,
            "capacities": [
                {"name": name, "centre": centre, "smallest": low, "largest": high, "scale": scale._asdict(), "exponent": exponent._asdict()}
                for name, centre, (low, high), scale, exponent in zip(
                    self.names, self.centres, self.ranges, self.scales, self.exponents, strict=True
                )
            ],
            "floor": self.floor._asdict(),
            "interval": LEVEL,
            "chance_of_the_trend": self.chance,
            "seed_spread_log": self.seed_spread,
            "misfit_log": self.misfit,
            "plateau_from": self.plateau,
            "predicts_its_largest": self.holds,
            "checks": [check._asdict() | {"predicted": check.predicted._asdict()} for check in self.checks],
        }

    def _of(self, parameters: Floats, sizes: Floats) -> Floats:
        z = np.log(np.asarray(sizes, dtype=np.float64)) - np.log(self.centres)
        powers = np.exp(-parameters[:, None, 2::2] * z)
        return np.asarray(parameters[:, :1] + np.einsum("bt,brt->br", parameters[:, 1::2], powers))


def fit(
    sizes: Floats,
    errors: Floats,
    names: Sequence[str],
    generator: np.random.Generator,
    resampled: Floats | None = None,
    draws: int = DRAWS,
) -> Law | Refused:
    """The law of `errors` (P,), one a training, at capacities `sizes` (P, T), the student's first; or the reason why there is none.

    `resampled` (R, P) are the same trainings' errors on resampled test subjects.
    """
    if reason := _unfit(sizes, errors, names):
        return Refused(reason)
    y = np.log(errors)
    cells, cell = np.unique(sizes, axis=0, return_inverse=True)
    chances = [_chance_of_trend(cells, _means(y, cell), axis, generator) for axis in range(sizes.shape[1])]
    worst = int(np.argmax(chances))
    if chances[worst] > CHANCE:
        return Refused(
            f"errors do not fall with {names[worst]}: shuffled sizes show such a trend in {chances[worst]:.0%} of cases "
            f"(allowed: {CHANCE:.0%}); more seeds, or sizes further apart, may show one"
        )
    law = _fitted(sizes, y, names, max(chances), generator, resampled, draws, checks=True)
    for name, exponent in zip(names, law.exponents, strict=True):
        if not EXPONENTS[0] * 1.01 < exponent.value < EXPONENTS[1] * 0.99:
            why = "errors hardly fall at all" if exponent.value < 1 else "the smallest alone differs from the others"
            return Refused(f"the best exponent of {name} is {exponent.value:.2g}, as far as is looked: {why}")
    return law


def _unfit(sizes: Floats, errors: Floats, names: Sequence[str]) -> str:
    """Why no law can be asked for; empty where one can."""
    wrong = ~(np.isfinite(errors) & (errors > 0))
    if wrong.any():
        return f"{int(wrong.sum())} of {len(errors)} trainings have an error that is 0 or no number, which has no logarithm"
    for axis, name in enumerate(names):
        found, needed = len(np.unique(sizes[:, axis])), FEWEST_STUDENTS if axis == 0 else FEWEST_TEACHERS
        if found < needed:
            return f"{found} different {name}; a law over them needs {needed} at least"
    return ""


def _fitted(
    sizes: Floats,
    y: Floats,
    names: Sequence[str],
    chance: float,
    generator: np.random.Generator,
    resampled: Floats | None,
    draws: int,
    *,
    checks: bool,
) -> Law:
    """The law of log errors `y`, whatever their trend."""
    centres = np.exp(np.log(np.unique(sizes, axis=0)).mean(axis=0))
    z = np.log(sizes) - np.log(centres)
    cells, cell = np.unique(sizes, axis=0, return_inverse=True)
    seed_spread = _seed_spread(y, cell)
    robust = max(seed_spread, _linear_residual(z, y), LEAST_SPREAD)
    best = _best(z, y, robust)
    residual = y - _model(z, best[None])[0][0]
    free = max(len(cells) - 1 - 2 * sizes.shape[1], 1)
    misfit = _misfit(residual, cell, seed_spread, free)
    noise = _noise(residual, cell, misfit, free, draws, generator)
    simulated, starts = _model(z, best[None])[0] + noise, np.repeat(best[None], draws, axis=0)
    paired = found = _natural(_solve(z, simulated, robust, starts)[0])
    if resampled is not None:
        found = _natural(_solve(z, simulated + _subject_noise(y, resampled, draws, generator), robust, starts)[0])
    value = _natural(best[None])[0]
    low, high = np.quantile(found, _tails(), axis=0)
    told = [Estimate(*map(float, each)) for each in zip(value, low, high, strict=True)]
    return Law(
        names=tuple(names),
        centres=tuple(map(float, centres)),
        ranges=tuple((float(column.min()), float(column.max())) for column in sizes.T),
        floor=told[0],
        scales=tuple(told[1::2]),
        exponents=tuple(told[2::2]),
        chance=chance,
        seed_spread=seed_spread,
        misfit=misfit,
        plateau=_plateau(sizes[:, 0], y),
        checks=_checks(sizes, y, names, generator, resampled, draws) if checks else (),
        draws=found,
        paired_draws=paired,
    )


def _checks(
    sizes: Floats, y: Floats, names: Sequence[str], generator: np.random.Generator, resampled: Floats | None, draws: int
) -> tuple[Check, ...]:
    """For every law on the smallest student sizes only: its next size. The last check is that of the largest size."""
    students, found = np.unique(sizes[:, 0]), []
    for count in range(FEWEST_STUDENTS, len(students)):
        known, asked = sizes[:, 0] < students[count], sizes[:, 0] == students[count]
        part = None if resampled is None else resampled[:, known]
        law = _fitted(sizes[known], y[known], names, 0.0, generator, part, draws, checks=False)
        capacities = np.unique(sizes[asked], axis=0)
        middle = capacities[len(capacities) // 2][None]
        here = y[(sizes == middle).all(axis=1)]
        low, high = law.band(middle, len(here))
        predicted = Estimate(float(law.error(middle)[0]), float(low[0]), float(high[0]))
        error = law.seed_spread / np.sqrt(len(here))
        away = float(here.mean() - np.log(predicted.value)) / error if error else None
        mean = float(np.exp(here.mean()))
        found.append(Check(float(students[count - 1]), float(students[count]), predicted, mean, away, bool(low[0] <= mean <= high[0])))
    return tuple(found)


def _chance_of_trend(cells: Floats, means: Floats, axis: int, generator: np.random.Generator) -> float:
    """How often means shuffled among the sizes of one capacity, the others as they are, fall as much with its logarithm (one-sided)."""
    x = np.log(cells[:, axis])
    _, block = np.unique(np.delete(cells, axis, axis=1), axis=0, return_inverse=True)
    found, shuffled = 0.0, np.zeros(PERMUTATIONS)
    for number in range(int(block.max()) + 1):
        own, values = x[block == number] - x[block == number].mean(), means[block == number]
        found += float(own @ values)
        shuffled += generator.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1) @ own
    return float((1 + np.count_nonzero(shuffled <= found + 1e-12)) / (1 + PERMUTATIONS))


def _plateau(students: Floats, y: Floats) -> float | None:
    """Smallest of the largest sizes, three at least, whose mean log errors are within two standard errors of the last one's."""
    sizes, cell = np.unique(students, return_inverse=True)
    means, counts = _means(y, cell), np.bincount(cell)
    doubt = 2 * _seed_spread(y, cell) * np.sqrt(1 / counts + 1 / counts[-1])
    if not doubt.any():
        return None
    above = np.flatnonzero(np.abs(means - means[-1]) > doubt)
    first = int(above[-1]) + 1 if len(above) else 0
    return float(sizes[first]) if first <= len(sizes) - 3 else None


def _means(y: Floats, cell: NDArray[np.intp]) -> Floats:
    return np.bincount(cell, y) / np.bincount(cell)


def _seed_spread(y: Floats, cell: NDArray[np.intp]) -> float:
    """Standard deviation of log errors within a cell, pooled; 0 where no cell has two."""
    free = len(y) - int(cell.max()) - 1
    return float(np.sqrt(((y - _means(y, cell)[cell]) ** 2).sum() / free)) if free else 0.0


def _misfit(residual: Floats, cell: NDArray[np.intp], seed_spread: float, free: int) -> float:
    """Standard deviation of cells' means about the law, beyond what seeds explain."""
    means, counts = _means(residual, cell), np.bincount(cell)
    variance = float((means**2).sum() / free - seed_spread**2 * (1 / counts).mean())
    return float(np.sqrt(max(variance, 0.0)))


def _noise(residual: Floats, cell: NDArray[np.intp], misfit: float, free: int, draws: int, generator: np.random.Generator) -> Floats:
    """Noise (B, P) of simulated trainings: seeds' deviations drawn from those found, and one deviation a cell.

    The misfit is known from `free` deviations only, so each draw has one of its own (Student's t).
    """
    counts = np.bincount(cell)
    within = residual - _means(residual, cell)[cell]
    several = counts[cell] > 1
    pool = (within * np.sqrt(counts[cell] / np.maximum(counts[cell] - 1, 1)))[several] if several.any() else np.zeros(1)
    spread = misfit * np.sqrt(free / np.maximum(generator.chisquare(free, (draws, 1)), LEAST_CHISQUARE))
    own = spread * generator.standard_normal((draws, len(counts)))
    return np.asarray(generator.choice(pool, (draws, len(cell))) + own[:, cell])


def _subject_noise(y: Floats, resampled: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """How log errors move (B, P) with the test subjects, together for all trainings."""
    usable = resampled[(np.isfinite(resampled) & (resampled > 0)).all(axis=1)]
    if not len(usable):
        return np.zeros((draws, len(y)))
    return np.asarray(np.log(usable[generator.integers(len(usable), size=draws)]) - y)


def _linear_residual(z: Floats, y: Floats) -> float:
    """Robust standard deviation of `y` about a straight line: where a first law may be looked for."""
    design = np.column_stack([np.ones(len(y)), z])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1.4826 * np.median(np.abs(rest)))


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2


# --- the fit: its parameters are the floor, then the logarithm of the scale, and the exponent, of each term ---


def _model(z: Floats, parameters: Floats) -> tuple[Floats, Floats]:
    """Log errors (B, P) at z (P, T), and their derivatives (B, P, K), of parameters (B, K)."""
    floor, scales, exponents = parameters[:, None, :1], parameters[:, None, 1::2], parameters[:, None, 2::2]
    terms = np.exp(scales - exponents * z)  # (B, P, T)
    total = floor + terms.sum(axis=2, keepdims=True)
    slope = np.empty((*terms.shape[:2], parameters.shape[1]))
    slope[:, :, :1] = 1 / total
    slope[:, :, 1::2], slope[:, :, 2::2] = terms / total, -z * terms / total
    return np.log(total[:, :, 0]), slope


def _natural(parameters: Floats) -> Floats:
    """Floor, scales and exponents (B, K) as a law holds them."""
    found = parameters.copy()
    found[:, 1::2] = np.exp(parameters[:, 1::2])
    return found


def _best(z: Floats, y: Floats, robust: float) -> Floats:
    """The best of several starts (K,)."""
    floors, exponents = (0.0, 0.5, 0.9), (0.2, 0.6, 1.5)
    low, terms = float(np.exp(y.min())), z.shape[1]
    starts = np.array([[share * low, *[np.log(np.exp(y.mean()) / terms), b] * terms] for share in floors for b in exponents])
    found, cost = _solve(z, np.repeat(y[None], len(starts), axis=0), robust, starts)
    return np.asarray(found[int(np.argmin(cost))])


def _solve(z: Floats, y: Floats, robust: float, start: Floats) -> tuple[Floats, Floats]:
    """Levenberg-Marquardt on B data sets at once: z (P, T), y (B, P), start (B, K) -> parameters (B, K) and costs (B,).

    The loss is sum of 2 s^2 (sqrt(1 + (r / s)^2) - 1), s = `robust`: squares near zero, absolute values far away. Steps that leave
    the bounds stop there; a parameter at its bound that would leave it stands still.
    """
    terms = z.shape[1]
    low = np.array([0.0, *[-30.0, EXPONENTS[0]] * terms])
    high = np.array([np.exp(min(y.max(), 30.0)), *[30.0, EXPONENTS[1]] * terms])
    theta, damping = np.clip(start, low, high), np.full(len(start), 1e-3)
    value, slope = _model(z, theta)
    cost = _cost(y - value, robust)
    idle = 0
    for _ in range(STEPS):
        rest = y - value
        weight = 1 / np.sqrt(1 + (rest / robust) ** 2)
        downhill = ((weight * rest)[:, None] @ slope)[:, 0]
        fixed = ((theta <= low) & (downhill < 0)) | ((theta >= high) & (downhill > 0))
        free = np.where(fixed[:, None, :], 0.0, slope)
        normal = (free * weight[:, :, None]).transpose(0, 2, 1) @ free
        diagonal = np.einsum("bkk->bk", normal)
        normal += np.eye(normal.shape[1]) * (damping[:, None] * diagonal + 1e-9)[:, :, None]
        step = np.linalg.solve(normal, np.where(fixed, 0.0, downhill)[:, :, None])[:, :, 0]
        tried = np.clip(theta + step, low, high)
        new_value, new_slope = _model(z, tried)
        new_cost = _cost(y - new_value, robust)
        better = new_cost < cost
        idle = 0 if (cost - new_cost > NOTABLE * cost).any() else idle + 1
        theta = np.where(better[:, None], tried, theta)
        value = np.where(better[:, None], new_value, value)
        slope = np.where(better[:, None, None], new_slope, slope)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-9, 1e9)
        if idle == IDLE_STEPS:
            break
    return theta, cost


def _cost(rest: Floats, robust: float) -> Floats:
    return np.asarray((2 * robust**2 * (np.sqrt(1 + (rest / robust) ** 2) - 1)).sum(axis=1))
