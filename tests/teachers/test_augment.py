"""Augmentation: deterministic, in range, and true to rhythm and polarity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.teachers.augment import STRETCH, augment, scale, view

RATE_HZ = 100


def pulses(count: int, length: int = 1000, period: int = 80, channels: int = 1) -> np.ndarray:
    """A clean regular pulse train, sharply peaked upwards."""
    t = np.arange(length)
    wave = np.exp(3 * np.cos(2 * np.pi * t / period))
    return scale(np.broadcast_to(wave, (count, channels, length)).astype(np.float32))


@given(seed=st.integers(0, 1000), count=st.integers(1, 4), channels=st.integers(1, 3), length=st.integers(16, 400))
def test_every_variant_is_finite_and_fills_the_range(seed: int, count: int, channels: int, length: int) -> None:
    x = scale(np.random.default_rng(seed).normal(size=(count, channels, length)).astype(np.float32))
    out, rate = augment(x, np.random.default_rng(seed + 1))
    assert rate.shape == (count,) and (np.abs(np.log(rate)) <= STRETCH + 1e-6).all()
    assert out.shape == x.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.allclose(out.min(axis=2), -1, atol=1e-5) and np.allclose(out.max(axis=2), 1, atol=1e-5)


def test_strength_zero_changes_nothing() -> None:
    x = pulses(3)
    same, rate = augment(x, np.random.default_rng(0), 0.0)
    assert same is x and np.array_equal(rate, np.ones(3, np.float32))


def test_the_input_is_never_written_to() -> None:
    x = pulses(8)
    before = x.copy()
    augment(x, np.random.default_rng(0), 2.0)
    assert np.array_equal(x, before)


def test_rate_changes_by_at_most_the_stretch_and_regular_stays_regular() -> None:
    period = 80
    varied, rate = augment(pulses(200, period=period), np.random.default_rng(0), 0.5)
    out = varied[:, 0]
    spectrum = np.abs(np.fft.rfft(out, 8000, axis=1))
    low = int(8000 * 0.006)  # above the wander
    found = (spectrum[:, low:400].argmax(axis=1) + low) * period / 8000
    bound = np.exp(0.5 * STRETCH)
    assert found.min() > 0.97 / bound and found.max() < 1.03 * bound
    assert found.std() > 0.02, "windows are stretched differently"
    assert np.abs(found / rate - 1).max() < 0.04, "the rate that is told is the one that is heard"


def test_polarity_is_kept() -> None:
    """A pulse rises fast above its median and stays long below it: skewness tells which way up the window is."""
    out = augment(pulses(200), np.random.default_rng(0))[0][:, 0]
    centred = out - out.mean(axis=1, keepdims=True)
    skew = (centred**3).mean(axis=1) / (centred**2).mean(axis=1) ** 1.5
    assert (skew > 0).mean() > 0.9


def test_views_are_fixed_by_seed_number_and_place() -> None:
    x = pulses(6)
    same, unchanged = view(x, 0, strength=1.0, seed=3)
    assert same is x and (unchanged == 1).all()
    (first, rate), (second, _) = view(x, 1, strength=1.0, seed=3), view(x, 2, strength=1.0, seed=3)
    again, shorter = view(x, 1, strength=1.0, seed=3), view(x[:4], 1, strength=1.0, seed=3)
    assert np.array_equal(first, again[0]) and np.array_equal(rate, again[1])
    assert np.array_equal(first[:4], shorter[0]) and np.array_equal(rate[:4], shorter[1]), "a shorter set has the same variants"
    for other in (second, view(x, 1, strength=1.0, seed=4)[0], x):
        assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1]), "alike windows get different variants"


@pytest.mark.parametrize("length", [2, 3])
def test_the_shortest_windows_do_not_fail(length: int) -> None:
    assert augment(np.zeros((2, 1, length), np.float32), np.random.default_rng(0))[0].shape == (2, 1, length)


def test_a_channel_without_a_signal_stays_one() -> None:
    x = pulses(4, channels=3)
    x[1, 2] = 0
    out, _ = augment(x, np.random.default_rng(0))
    flat = out.max(axis=2) == out.min(axis=2)
    assert not out[1, 2].any() and flat.sum() == 1
