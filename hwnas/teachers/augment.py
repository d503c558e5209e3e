"""Random variants of a pulse window that keep its rhythm. numpy only; touches no files.

Rates are in cycles a sample, chosen for 100 Hz. What may differ between two recordings of the same rhythm: heart rate as a whole,
pulse shape, breathing, wander, motion, noise, a lost second. Never polarity, never the order of the beats.
Each variant is min-max scaled to [-1, 1] again, as every input of this project is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.integer[Any]]

STRETCH = 0.20  # rate changed by up to this share
GAMMA = 0.50  # pulse shape: exponent between exp(-GAMMA) and exp(GAMMA)
MODULATION = 0.25  # depth of the amplitude modulation
WANDER = 0.30  # baseline, in units of the window's range
SLOW = (0.0005, 0.004)  # 0.05 to 0.4 Hz at 100 Hz
NOISE = 0.05  # standard deviation of the sensor noise
CUTOUT = 0.10  # longest flat stretch, as a share of the window


def augment(x: Floats, generator: np.random.Generator, strength: float = 1.0) -> tuple[Floats, Floats]:
    """One random variant of each window of `x` (N, C, T), and how many times as fast its rhythm is (N,).

    A heart rate of the window must be multiplied by that. `strength` scales every effect, 0 gives `x` back at rate 1.
    """
    count, channels, length = x.shape
    if strength == 0.0:
        return x, np.ones(count, dtype=np.float32)
    out, rate = _stretch(x, generator, strength)
    gamma = np.exp(generator.uniform(-GAMMA, GAMMA, (count, 1, 1)) * strength)
    out = np.clip((out + 1.0) * 0.5, 0.0, 1.0) ** gamma.astype(np.float32)
    out *= 1.0 + MODULATION * strength * _waves(generator, (count, channels), length)
    out += WANDER * strength * _waves(generator, (count, channels), length)
    noise = np.abs(generator.normal(0.0, NOISE * strength, (count, channels, 1))).astype(np.float32)
    out += noise * generator.standard_normal((count, channels, length), dtype=np.float32)
    _cut(out, generator, strength)
    out = scale(out)
    out[x.max(axis=2) == x.min(axis=2)] = 0.0  # a channel without a signal, such as motion at rest, stays one
    return out, rate


def scale(x: NDArray[np.floating[Any]]) -> Floats:
    """Each channel of each window of `x` (N, C, T) min-max scaled to [-1, 1]."""
    low, high = x.min(axis=2, keepdims=True), x.max(axis=2, keepdims=True)
    return np.asarray((x - low) * (2.0 / np.maximum(high - low, 1e-6)) - 1.0, dtype=np.float32)


def view(x: Floats, number: int, *, strength: float, seed: int, places: Ints | None = None) -> tuple[Floats, Floats]:
    """Fixed variant `number` of `x` (N, C, T) and its rate (N,), as `augment` gives them; number 0 is `x` itself.

    A window's variant depends on `seed`, the number and the window's place only, so that a shorter set has the same ones; of a part of
    a set, `places` (N,) tells them.
    """
    if number == 0:
        return x, np.ones(len(x), dtype=np.float32)
    out, rate = np.empty_like(x), np.empty(len(x), dtype=np.float32)
    for i, place in enumerate(range(len(x)) if places is None else places.tolist()):
        out[i : i + 1], rate[i : i + 1] = augment(x[i : i + 1], np.random.default_rng([seed, number, place]), strength)
    return out, rate


def _stretch(x: Floats, generator: np.random.Generator, strength: float) -> tuple[Floats, Floats]:
    """Faster or slower around a random point, and the rate (N,); what lies outside the window is mirrored, which keeps intervals."""
    count, channels, length = x.shape
    rate = np.exp(generator.uniform(-STRETCH, STRETCH, (count, 1)) * strength)
    centre = generator.uniform(0.0, length - 1.0, (count, 1))
    place = centre + rate * (np.arange(length) - centre)
    period = 2.0 * (length - 1)
    place = np.abs((place + length - 1.0) % period - (length - 1.0))
    left = np.minimum(place.astype(np.int64), length - 2)
    share = (place - left).astype(np.float32)[:, None]
    index = np.broadcast_to(left[:, None], (count, channels, length))
    low, high = np.take_along_axis(x, index, axis=2), np.take_along_axis(x, index + 1, axis=2)
    return np.asarray(low + share * (high - low), dtype=np.float32), np.asarray(rate[:, 0], dtype=np.float32)


def _waves(generator: np.random.Generator, shape: tuple[int, int], length: int) -> Floats:
    """One slow sine a channel with a random amplitude up to 1: (N, C, T)."""
    amplitude = generator.uniform(0.0, 1.0, (*shape, 1)).astype(np.float32)
    rate = generator.uniform(*SLOW, (*shape, 1)).astype(np.float32)
    phase = generator.uniform(0.0, 1.0, (*shape, 1)).astype(np.float32)
    turns = rate * np.arange(length, dtype=np.float32) + phase
    return np.asarray(amplitude * np.sin(np.float32(2.0 * np.pi) * turns), dtype=np.float32)


def _cut(x: Floats, generator: np.random.Generator, strength: float) -> None:
    """Flatten one random stretch of half of the windows to its first value, in place."""
    count, _, length = x.shape
    lengths = (generator.uniform(0.0, CUTOUT * strength, count) * length).astype(int) * (generator.random(count) < 0.5)
    starts = (generator.random(count) * (length - lengths)).astype(int)
    for row in np.flatnonzero(lengths):
        start, end = starts[row], starts[row] + lengths[row]
        x[row, :, start:end] = x[row, :, start, None]
