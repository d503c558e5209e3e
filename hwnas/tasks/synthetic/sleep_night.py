"""One invented night: hypnogram, breath, heart beats and movements, a single course of events behind every signal. Pure numpy.

The heart is an integral pulse frequency modulator: its rate, modulated by breath (HF), LF and slower components, is integrated, and
a beat falls on every whole number (Rompelman et al., Med Biol Eng Comput 1977, 15:233).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from hwnas.tasks.synthetic import sleep_parameters as p
from hwnas.tasks.synthetic.subject import draw

Array = NDArray[np.float64]
GRID_HZ = 4.0
MARGIN_S = 5.0  # signals begin before the first epoch and end after the last


@dataclass(frozen=True, eq=False)
class Night:
    """A night of `EPOCHS` epochs; times in seconds from its first.

    Attributes:
        stage: (EPOCHS,) numbers in STAGES.
        beats_s: times of the R waves.
        grid_s, breath: time and state of the chest, a unit wave of changing depth, at GRID_HZ.
        moves_s, moves_length_s: beginning and length of body movements.
    """

    stage: NDArray[np.int64]
    beats_s: Array
    grid_s: Array
    breath: Array
    moves_s: Array
    moves_length_s: Array


def night(rng: np.random.Generator) -> Night:
    """Draw a person and a night of his."""
    stage = hypnogram(rng)
    grid_s = np.arange(-MARGIN_S, p.EPOCHS * p.EPOCH_S + MARGIN_S, 1 / GRID_HZ)
    epoch = np.clip(grid_s // p.EPOCH_S, 0, p.EPOCHS - 1).astype(np.int64)
    scored = p.Stage(*np.array(p.BY_STAGE)[stage[epoch]].T)
    now = p.Stage(*_followed(np.array(scored), p.STAGE_SETTLES_S))
    # movements keep to the epochs as scored: they are part of what is scored
    moves_s = grid_s[rng.random(len(grid_s)) < np.array(scored.moves_per_h) / 3600 / GRID_HZ]
    turn, breath = _breath(rng, now, len(grid_s))
    return Night(stage, _beats(rng, now, grid_s, turn, moves_s), grid_s, breath, moves_s, draw(rng, p.MOVEMENT_S, len(moves_s)))


def hypnogram(rng: np.random.Generator) -> NDArray[np.int64]:
    """Stages (EPOCHS,) of a night that begins awake: a Markov chain whose rates differ between people and over the night."""
    counts = np.array(p.TRANSITIONS, dtype=np.float64)
    chain = counts / counts.sum(axis=1, keepdims=True)
    person = np.exp(rng.normal(0.0, p.PERSON_RATES, len(p.STAGES)))
    chance = rng.random(p.EPOCHS)
    stage = np.zeros(p.EPOCHS, dtype=np.int64)
    asleep_s = 0.0
    for i in range(1, p.EPOCHS):
        here = stage[i - 1]
        trend = p.NIGHT_TREND ** (1 - 2 * i / p.EPOCHS)
        asleep_s += p.EPOCH_S * (here != p.WAKE)
        enters = person * [1.0, 1.0, trend, 1 / trend if asleep_s >= p.FIRST_REM_S else 0.0]
        leave = chain[here] * enters
        leave[here] = 0.0
        # what does not leave stays; rates are far below one
        stage[i] = np.searchsorted(np.cumsum(leave), chance[i], side="right") if chance[i] < leave.sum() else here
    return stage


def _breath(rng: np.random.Generator, now: p.Stage, n: int) -> tuple[Array, Array]:
    """Phase in radians and state of the chest (n,)."""
    rate_hz = draw(rng, p.BREATH_HZ) * now.breath * np.exp(now.irregular * _wandering(rng, n))
    turn = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.cumsum(rate_hz) / GRID_HZ
    return turn, np.sin(turn) * np.exp(2 * now.irregular * _wandering(rng, n))


def _beats(rng: np.random.Generator, now: p.Stage, grid_s: Array, turn: Array, moves_s: Array) -> Array:
    """Times of the beats in seconds."""
    hf, lf, vlf = np.array([p.HF_SHARE, p.LF_SHARE, p.VLF_SHARE]) * np.exp(rng.normal(0.0, p.PERSON_SHARE, 3))
    n = len(grid_s)
    share = hf * now.hf * np.sqrt(2) * np.sin(turn + rng.uniform(0, 2 * np.pi))
    share += lf * now.lf * _band(rng, n, p.LF_HZ, 0.0)
    share += vlf * now.vlf * _band(rng, n, p.VLF_HZ, 1.0)
    bpm = draw(rng, p.LIGHT_BPM) + now.bpm - draw(rng, p.NIGHT_DECLINE_BPM) * (grid_s / grid_s[-1] - 0.5)
    started = np.zeros(n)
    started[np.searchsorted(grid_s, moves_s)] = draw(rng, p.AROUSAL_BPM, len(moves_s))
    fading = np.exp(-1 / (p.AROUSAL_S * GRID_HZ))
    bpm = np.clip(bpm * (1 + share) + lfilter([1.0], [1.0, -fading], started), *p.RATE_LIMITS_BPM)
    count = np.cumsum(bpm / 60 / GRID_HZ)
    return np.asarray(np.interp(np.arange(np.ceil(count[0]), np.floor(count[-1]) + 1), count, grid_s))


def _followed(x: Array, within_s: float) -> Array:
    """What follows the steps of `x` (..., n) with a time constant."""
    keep = np.exp(-1 / (within_s * GRID_HZ))
    return np.asarray(lfilter([1 - keep], [1.0, -keep], x, zi=keep * x[..., :1])[0])


def _wandering(rng: np.random.Generator, n: int) -> Array:
    """Noise of unit deviation (n,) that forgets within BREATH_DRIFT_S."""
    keep = np.exp(-1 / (p.BREATH_DRIFT_S * GRID_HZ))
    return np.asarray(lfilter([np.sqrt(1 - keep**2)], [1.0, -keep], rng.normal(size=n)))


def _band(rng: np.random.Generator, n: int, limits_hz: tuple[float, float], slope: float) -> Array:
    """Noise of unit deviation (n,) in a band, its power falling with f to the `slope`."""
    f = np.fft.rfftfreq(n, 1 / GRID_HZ)
    inside = (f >= limits_hz[0]) & (f <= limits_hz[1])
    gain = np.where(inside, np.maximum(f, limits_hz[0]) ** (-slope / 2), 0.0)
    x = np.fft.irfft(gain * (rng.normal(size=len(f)) + 1j * rng.normal(size=len(f))), n=n)
    return np.asarray(x / x.std())
