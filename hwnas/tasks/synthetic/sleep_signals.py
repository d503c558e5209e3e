"""ECG and BCG of chosen epochs of a night, both from its beats, breath and movements. Pure numpy.

ECG: the P-QRS-T waves of McSharry et al. (2003) as Gaussians around every R wave, the form their differential equation settles to.
BCG: every beat is a person's I-J-K complex with ringing behind it, in the wave shape of how he lies, on breath, noise and movements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.tasks.synthetic import sleep_parameters as p
from hwnas.tasks.synthetic.parameters import Range
from hwnas.tasks.synthetic.sleep_night import Array, Night
from hwnas.tasks.synthetic.subject import draw

RATE_HZ = 50.0
SAMPLES = round(p.EPOCH_S * RATE_HZ)
REACH_S = (-0.5, 1.2)  # of a beat around its R wave


@dataclass(frozen=True, eq=False)
class Body:
    """What a person's signals look like; shapes of the BCG are one row for each posture."""

    waves: Array  # (5, 3): time in s, width in s and size over an R wave of 1
    ecg_amplitude: float
    ecg_baseline: float
    ecg_noise: float
    rj_s: Array
    ijk_hz: Array
    ijk_width_s: Array
    ringing: Array
    ringing_hz: Array
    ringing_s: Array
    strength: Array
    bcg_amplitude: float
    bcg_baseline: float


def body(rng: np.random.Generator) -> Body:
    """Draw a person's signals."""
    angle, a, b = (np.array([wave[i] for wave in p.WAVES.values()]) for i in range(3))
    size = a * b**2 * np.exp(rng.normal(0.0, p.WAVE_SPREAD, len(a)))
    waves = np.stack([np.deg2rad(angle) / (2 * np.pi), b / (2 * np.pi), size / size.max()], axis=1)

    def one(span: Range) -> float:
        return float(draw(rng, span))

    return Body(
        waves=waves,
        ecg_amplitude=one(p.ECG_BREATH_AMPLITUDE),
        ecg_baseline=one(p.ECG_BREATH_BASELINE),
        ecg_noise=one(p.ECG_NOISE),
        rj_s=draw(rng, p.RJ_S, p.POSTURES),
        ijk_hz=draw(rng, p.IJK_HZ, p.POSTURES),
        ijk_width_s=draw(rng, p.IJK_WIDTH_S, p.POSTURES),
        ringing=draw(rng, p.RINGING, p.POSTURES),
        ringing_hz=draw(rng, p.RINGING_HZ, p.POSTURES),
        ringing_s=draw(rng, p.RINGING_S, p.POSTURES),
        strength=np.exp(rng.normal(0.0, p.POSTURE_SPREAD, p.POSTURES)) * rng.choice([-1.0, 1.0], p.POSTURES),
        bcg_amplitude=one(p.BCG_BREATH_AMPLITUDE),
        bcg_baseline=one(p.BCG_BREATH_BASELINE),
    )


@dataclass(frozen=True, eq=False)
class Patches:
    """Beats that reach into windows: of each beat the window, its first sample, the time since its R wave (beats, samples), its place."""

    window: NDArray[np.int64]
    first: NDArray[np.int64]
    after_s: Array
    beat: NDArray[np.int64]

    def sum(self, value: Array, windows: int) -> Array:
        """Overlapping patches (beats, samples) added up into windows (windows, SAMPLES)."""
        place = self.first[:, None] + np.arange(value.shape[1])
        inside = (place >= 0) & (place < SAMPLES)
        flat = (self.window[:, None] * SAMPLES + place)[inside]
        total = np.bincount(flat, weights=value[inside], minlength=windows * SAMPLES)
        return np.asarray(total.reshape(windows, SAMPLES), dtype=np.float64)


def patches(beats_s: Array, start_s: Array) -> Patches:
    """The beats that windows beginning at `start_s` (n,) see."""
    low = np.searchsorted(beats_s, start_s - REACH_S[1])
    high = np.searchsorted(beats_s, start_s + p.EPOCH_S - REACH_S[0])
    window = np.repeat(np.arange(len(start_s)), high - low)
    beat = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
    arrives = (beats_s[beat] - start_s[window]) * RATE_HZ
    first = np.ceil(arrives + REACH_S[0] * RATE_HZ).astype(np.int64)
    length = int((REACH_S[1] - REACH_S[0]) * RATE_HZ)
    after_s = (first[:, None] + np.arange(length) - arrives[:, None]) / RATE_HZ
    return Patches(window, first, after_s, beat)


def ecg(rng: np.random.Generator, who: Body, course: Night, start_s: Array) -> Array:
    """ECG (n, SAMPLES), an R wave about 1."""
    seen = patches(course.beats_s, start_s)
    # P and T waves follow the root of the interval, as in ECGSYN; the QRS complex keeps its length
    stretch = np.sqrt(np.clip(np.gradient(course.beats_s)[seen.beat], 0.4, 1.6))[:, None]
    value = np.zeros_like(seen.after_s)
    for name, (at_s, width_s, size) in zip(p.WAVES, who.waves, strict=True):
        scale = stretch if name in "pt" else 1.0
        value += size * np.exp(-0.5 * ((seen.after_s - at_s * scale) / (width_s * scale)) ** 2)
    value *= 1 + who.ecg_amplitude * np.interp(course.beats_s[seen.beat], course.grid_s, course.breath)[:, None]
    clean = seen.sum(value, len(start_s)) + who.ecg_baseline * _breath(course, start_s)
    moves = _movements(rng, course, start_s, draw(rng, p.ECG_MOVEMENT, len(course.moves_s)))
    return np.asarray(clean + moves + who.ecg_noise * rng.normal(size=clean.shape))


def bcg(rng: np.random.Generator, who: Body, course: Night, start_s: Array, noise: float) -> Array:
    """BCG (n, SAMPLES), a J wave about 1; `noise` is its deviation over that of the beats."""
    size = 1 + p.BEAT_SPREAD * rng.normal(size=len(course.beats_s))
    late = p.BCG_JITTER_S * rng.normal(size=len(course.beats_s))
    turns = rng.random(len(course.moves_s)) < p.TURN_SHARE
    lying = np.concatenate([[0], rng.integers(0, p.POSTURES, len(course.moves_s))])
    # a movement without a turn leaves the posture of the last turn
    last = np.maximum.accumulate(np.where(np.concatenate([[True], turns]), np.arange(len(lying)), 0))
    way = lying[last][np.searchsorted(course.moves_s, course.beats_s)]
    seen = patches(course.beats_s, start_s)
    way = way[seen.beat]
    t = seen.after_s - (who.rj_s[way] + late[seen.beat])[:, None]
    width = who.ijk_width_s[way][:, None]
    value = np.exp(-0.5 * (t / width) ** 2) * np.cos(2 * np.pi * who.ijk_hz[way][:, None] * t)
    later = np.maximum(t - width, 0.0)
    value -= (
        who.ringing[way][:, None] * np.exp(-later / who.ringing_s[way][:, None]) * np.sin(2 * np.pi * who.ringing_hz[way][:, None] * later)
    )
    depth = 1 + who.bcg_amplitude * np.interp(course.beats_s[seen.beat], course.grid_s, course.breath)
    beats = seen.sum(value * (who.strength[way] * size[seen.beat] * depth)[:, None], len(start_s))
    level = noise * np.exp(rng.normal(0.0, p.BCG_NOISE_SPREAD, (len(start_s), 1))) * beats.std()
    floor = level * _coloured(rng, beats.shape, p.BCG_NOISE_HZ)
    moves = _movements(rng, course, start_s, draw(rng, p.BCG_MOVEMENT, len(course.moves_s)))
    return np.asarray(beats + floor + who.bcg_baseline * _breath(course, start_s) + moves)


def _breath(course: Night, start_s: Array) -> Array:
    """The state of the chest (n, SAMPLES)."""
    return np.interp(start_s[:, None] + np.arange(SAMPLES) / RATE_HZ, course.grid_s, course.breath)


def _movements(rng: np.random.Generator, course: Night, start_s: Array, strength: Array) -> Array:
    """Bursts of band-limited noise under a Hann envelope (n, SAMPLES), one for each movement that a window sees."""
    out = np.zeros((len(start_s), SAMPLES))
    ends_s = course.moves_s + course.moves_length_s
    window, move = np.nonzero((ends_s > start_s[:, None]) & (course.moves_s < start_s[:, None] + p.EPOCH_S))
    if len(window):
        t = start_s[window, None] + np.arange(SAMPLES) / RATE_HZ - course.moves_s[move, None]
        share = np.clip(t / course.moves_length_s[move, None], 0.0, 1.0)
        burst = strength[move, None] * np.sin(np.pi * share) ** 2 * _coloured(rng, t.shape, p.MOVEMENT_HZ)
        np.add.at(out, window, burst)
    return out


def _coloured(rng: np.random.Generator, shape: tuple[int, ...], limits_hz: tuple[float, float]) -> Array:
    """Noise of unit deviation (n, T) within a band, falling with 1/sqrt(f)."""
    f = np.fft.rfftfreq(shape[1], 1 / RATE_HZ)
    gain = np.where((f >= limits_hz[0]) & (f <= limits_hz[1]), 1 / np.sqrt(np.maximum(f, limits_hz[0])), 0.0)
    x = np.fft.irfft(gain * (rng.normal(size=(shape[0], len(f))) + 1j * rng.normal(size=(shape[0], len(f)))), n=shape[1], axis=1)
    return np.asarray(x / x.std(axis=1, keepdims=True))
