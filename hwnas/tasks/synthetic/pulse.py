"""From beats to a PPG waveform: pulses, disturbances, the sensor's band-pass. Pure numpy, in the frequency domain.

A beat is an impulse whose size follows filling time and contraction strength. Each impulse excites a systolic wave with two later
components (Gaussians), smoothed by a Windkessel: H(f) = (G1 + r2 G2 e^{-i w d2} + r3 G3 e^{-i w d3}) / (1/tau + i w).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from hwnas.tasks.synthetic import parameters as p
from hwnas.tasks.synthetic.intervals import LEAD_S, Array, Beats
from hwnas.tasks.synthetic.subject import Person, draw, near

Complex = NDArray[np.complex128]
TAIL_S = 2.0


def waveform(rng: np.random.Generator, who: Person, beats: Beats, rate_hz: float, window_s: float) -> Array:
    """PPG (n, T) of `beats`, in units of a normal pulse before the sensor's filter."""
    n = len(beats.rr)
    samples = next_fast_len(round((LEAD_S + window_s + TAIL_S) * rate_hz), real=True)
    t = np.arange(samples) / rate_hz - LEAD_S
    omega = 2 * np.pi * np.fft.rfftfreq(samples, 1 / rate_hz)
    size, arrival = _pulses(rng, who, beats)
    first = np.fft.rfft(_impulses(size, arrival, samples, rate_hz), axis=1)
    echo = np.fft.rfft(_impulses(size * rng.normal(1.0, 0.08, size.shape), arrival, samples, rate_hz), axis=1)
    clean = np.fft.irfft(_respond(rng, who, first, echo, omega, beats), n=samples, axis=1)
    clean /= np.maximum(clean.std(axis=1, keepdims=True), 1e-6)
    dirty = clean + _disturbances(rng, who, n, t, rate_hz)
    out = np.fft.irfft(np.fft.rfft(dirty, axis=1) * _band_pass(rng, who, n, omega), n=samples, axis=1)
    begin = round(LEAD_S * rate_hz)
    return np.asarray(out[:, begin : begin + round(window_s * rate_hz)])


def _pulses(rng: np.random.Generator, who: Person, beats: Beats) -> tuple[Array, Array]:
    """Size (n, m) and arrival time in seconds (n, m) of each beat's pulse."""
    n, m = beats.rr.shape
    filling = near(rng, who.filling_s, p.FILLING_S, n)[:, None]
    start = near(rng, who.filling_start_s, p.FILLING_START_S, n)[:, None]
    filled = np.clip(1.0 - np.exp(-(beats.rr - start) / filling), 0.02, None)
    breath = 2 * np.pi * near(rng, who.respiration_hz, p.RESPIRATION_HZ, n)[:, None] * beats.times_s
    breath += rng.uniform(0, 2 * np.pi, (n, 1))
    size = filled * beats.strength * (1.0 + draw(rng, p.RESPIRATORY_AMPLITUDE, n)[:, None] * np.sin(breath))
    size *= 1.0 + rng.normal(0, 0.03, (n, m))
    missed = (rng.random((n, 1)) < p.MISSED_SHARE) * draw(rng, p.MISSED_BEATS, n)[:, None]
    size *= rng.random((n, m)) >= missed
    late = draw(rng, p.ARRIVAL_FILLING_S, n)[:, None] * (1.0 - np.minimum(filled, 1.0))
    jitter = draw(rng, p.ARRIVAL_JITTER_S, n)[:, None] * rng.normal(size=(n, m))
    return size, beats.times_s + late + jitter


def _impulses(size: Array, arrival_s: Array, samples: int, rate_hz: float) -> Array:
    """Impulse trains (n, samples); a beat between two samples is shared by them."""
    n = len(size)
    place = (arrival_s + LEAD_S) * rate_hz
    low = np.floor(place).astype(np.int64)
    share = place - low
    inside = (low >= 0) & (low + 1 < samples)
    flat = (np.arange(n)[:, None] * samples + low)[inside]
    train = np.bincount(flat, weights=(size * (1 - share))[inside], minlength=n * samples)
    train += np.bincount(flat + 1, weights=(size * share)[inside], minlength=n * samples)
    return np.asarray(train.reshape(n, samples))


def _respond(rng: np.random.Generator, who: Person, first: Complex, echo: Complex, omega: Array, beats: Beats) -> Complex:
    """Spectrum of the pulse trains behind the arterial tree."""
    n = len(first)
    # systole shortens with the rate, less than in proportion
    scale = np.clip(np.median(beats.rr, axis=1) / 0.85, 0.35, 1.5)[:, None] ** 0.4
    width = near(rng, who.ejection_s, p.EJECTION_S, n)[:, None] * scale
    delay = near(rng, who.reflection_delay_s, p.REFLECTION_DELAY_S, n)[:, None] * scale
    notch = near(rng, who.dicrotic_delay_s, p.DICROTIC_DELAY_S, n)[:, None] * scale
    tau = near(rng, who.windkessel_s, p.WINDKESSEL_S, n)[:, None]
    gauss = np.exp(-0.5 * (omega * width) ** 2)
    later = near(rng, who.reflection, p.REFLECTION, n)[:, None] * np.exp(-1j * omega * delay)
    later = later + near(rng, who.dicrotic, p.DICROTIC, n)[:, None] * np.exp(-1j * omega * notch)
    return np.asarray((first * gauss + echo * later * gauss**1.6) / (1.0 / tau + 1j * omega))


def _disturbances(rng: np.random.Generator, who: Person, n: int, t: Array, rate_hz: float) -> Array:
    """Baseline wander, tissue and sensor noise, bursts of motion (n, samples), relative to a pulse train of unit deviation."""
    breath = near(rng, who.respiration_hz, p.RESPIRATION_HZ, n)[:, None]
    slow = rng.uniform(0.03, 0.14, (n, 1))
    turn = rng.uniform(0, 2 * np.pi, (2, n, 1))
    out = draw(rng, p.RESPIRATORY_BASELINE, n)[:, None] * np.sin(2 * np.pi * breath * t + turn[0])
    out += draw(rng, p.SLOW_BASELINE, n)[:, None] * np.sin(2 * np.pi * slow * t + turn[1])
    poor = rng.random(n) < p.POOR_SHARE
    tissue = np.where(poor, draw(rng, p.POOR_NOISE, n), who.noise * np.exp(rng.normal(*p.TISSUE_NOISE, n)))[:, None]
    shaped = _coloured(rng, n, len(t), rate_hz, 0.4, 4.0)
    out += tissue * shaped
    out += who.noise * np.exp(rng.normal(*p.SENSOR_NOISE, n))[:, None] * rng.normal(size=(n, len(t)))
    return np.asarray(out + _motion(rng, n, t, rate_hz))


def _coloured(rng: np.random.Generator, n: int, samples: int, rate_hz: float, low_hz: float, high_hz: float) -> Array:
    """Noise of unit deviation between two frequencies, falling with 1/sqrt(f)."""
    f = np.fft.rfftfreq(samples, 1 / rate_hz)
    gain = np.where((f >= low_hz) & (f <= high_hz), 1.0 / np.sqrt(np.maximum(f, low_hz)), 0.0)
    x = np.fft.irfft(gain * (rng.normal(size=(n, len(f))) + 1j * rng.normal(size=(n, len(f)))), n=samples, axis=1)
    return np.asarray(x / x.std(axis=1, keepdims=True))


def _motion(rng: np.random.Generator, n: int, t: Array, rate_hz: float) -> Array:
    """Bursts of motion (n, samples): band-limited noise under a Hann envelope, at most two a window."""
    window_s = t[-1] - TAIL_S
    out = np.zeros((n, len(t)))
    for _ in range(2):
        rows = np.flatnonzero(rng.random(n) < p.MOTION_PER_S * window_s / 2)
        centre, length, strength = rng.uniform(0, window_s, n), draw(rng, p.MOTION_S, n), draw(rng, p.MOTION_STRENGTH, n)
        if len(rows):
            phase = np.clip((t - centre[rows, None]) / length[rows, None], -0.5, 0.5)
            burst = _coloured(rng, len(rows), len(t), rate_hz, *p.MOTION_HZ)
            out[rows] += strength[rows, None] * np.cos(np.pi * phase) ** 2 * burst
    return out


def _band_pass(rng: np.random.Generator, who: Person, n: int, omega: Array) -> Complex:
    """Second-order Butterworth high-pass and low-pass (n, frequencies); causal or, as many devices do, zero-phase."""
    high = 2 * np.pi * near(rng, who.high_pass_hz, p.HIGH_PASS_HZ, n)[:, None]
    low = 2 * np.pi * near(rng, who.low_pass_hz, p.LOW_PASS_HZ, n)[:, None]
    s = 1j * omega
    gain = s**2 / (s**2 + np.sqrt(2) * high * s + high**2) * low**2 / (s**2 + np.sqrt(2) * low * s + low**2)
    return np.asarray(np.abs(gain) ** 2 + 0j if who.zero_phase else gain)
