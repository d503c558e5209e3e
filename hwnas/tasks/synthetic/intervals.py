"""RR-interval models: every rhythm as intervals and contraction strengths. Pure numpy, vectorised over windows.

`Beats.rr[w, i]` is the interval in seconds that ends with beat i of window w, `strength` the force of that contraction relative
to a normal one. Beat times count from the start of the simulation, `LEAD_S` before the window begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.tasks.synthetic import parameters as p
from hwnas.tasks.synthetic.subject import Person, draw, near

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEAD_S = 6.0
SHORTEST_S = 0.26


@dataclass
class Beats:
    """Intervals in seconds and strengths, both (n, m)."""

    rr: Array
    strength: Array

    @property
    def times_s(self) -> Array:
        """Beat times (n, m), 0 at the beginning of the window."""
        return np.cumsum(self.rr, axis=1) - LEAD_S


def beats_needed(window_s: float) -> int:
    """Beats that fill the simulation at the shortest interval."""
    return int(np.ceil((LEAD_S + window_s + 3.0) / SHORTEST_S)) + 1


def simulate(rng: np.random.Generator, who: Person, y: NDArray[np.int64], window_s: float) -> Beats:
    """Beats of windows with the rhythms `y` (n,)."""
    m = beats_needed(window_s)
    out = Beats(np.ones((len(y), m)), np.ones((len(y), m)))
    for rhythm, model in enumerate(MODELS):
        rows = np.flatnonzero(y == rhythm)
        if len(rows):
            found = model(rng, who, len(rows), m, window_s)
            out.rr[rows], out.strength[rows] = np.maximum(found.rr, SHORTEST_S), found.strength
    return out


def kinds(rng: np.random.Generator, table: tuple[tuple[str, float], ...], n: int) -> NDArray[np.str_]:
    """Draw the kind of each of `n` windows from (name, share) rows."""
    return rng.choice([name for name, _ in table], size=n, p=[share for _, share in table])


def pink(rng: np.random.Generator, n: int, m: int) -> Array:
    """1/f noise of unit deviation, (n, m)."""
    f = np.arange(m // 2 + 1, dtype=np.float64)
    f[0] = np.inf
    spectrum = (rng.normal(size=(n, len(f))) + 1j * rng.normal(size=(n, len(f)))) / np.sqrt(f)
    x = np.fft.irfft(spectrum, n=m, axis=1)
    return np.asarray(x / x.std(axis=1, keepdims=True))


def sinus(rng: np.random.Generator, who: Person, n: int, m: int, marked: Mask | None = None) -> Array:
    """Sinus intervals (n, m): respiratory and LF lines over 1/f noise; `marked` windows have marked sinus arrhythmia."""
    bpm = np.clip(who.sinus_bpm + draw(rng, p.SINUS_BPM_WITHIN, n), 44.0, 106.0)
    base = 60.0 / bpm[:, None]
    rsa = near(rng, who.rsa_share, p.RSA_SHARE, n)
    if marked is not None:
        rsa = np.where(marked, draw(rng, p.MARKED_RSA_SHARE, n), rsa)
    breath = near(rng, who.respiration_hz, p.RESPIRATION_HZ, n)[:, None]
    t = np.arange(m) * base
    turn = rng.uniform(0, 2 * np.pi, (2, n, 1))
    # breaths differ in depth and length, so a window's line is not a clean sine
    wobble = np.cumsum(rng.normal(0, 0.15, (n, m)), axis=1)
    share = rsa[:, None] * np.sin(2 * np.pi * breath * t + turn[0] + wobble)
    share += draw(rng, p.LF_SHARE, n)[:, None] * np.sin(2 * np.pi * draw(rng, p.MAYER_HZ, n)[:, None] * t + turn[1])
    share += draw(rng, p.PINK_SHARE, n)[:, None] * pink(rng, n, m)
    return np.asarray(base * (1.0 + share))


def visible(rng: np.random.Generator, rr: Array, window_s: float) -> NDArray[np.int64]:
    """A random beat of each window (n,) that lies well inside it."""
    target = LEAD_S + rng.uniform(1.5, max(window_s - 1.8, 1.6), len(rr))
    return np.asarray(np.minimum((np.cumsum(rr, axis=1) < target[:, None]).sum(axis=1), rr.shape[1] - 3))


def ectopic_places(rng: np.random.Generator, kind: NDArray[np.str_], rr: Array, window_s: float) -> Mask:
    """Which beats are ectopic (n, m), for kinds single, bigeminy, trigeminy, frequent; at least one is visible."""
    n, m = rr.shape
    rate = np.where(kind == "frequent", draw(rng, p.ECTOPIC_RATE, n), 0.02)
    period = np.select([kind == "bigeminy", kind == "trigeminy"], [2, 3], 0)
    regular = (np.arange(m) + rng.integers(0, 6, (n, 1))) % np.maximum(period, 1)[:, None] == 0
    # patterns break off now and then
    places = np.where(period[:, None] > 0, regular & (rng.random((n, m)) > 0.08), rng.random((n, m)) < rate[:, None])
    places[np.arange(n), visible(rng, rr, window_s)] = True
    couplets = (kind == "frequent")[:, None] & (rng.random((n, m)) < 0.15)
    places[:, 1:] &= ~places[:, :-1] | couplets[:, 1:]
    places[:, 0] = False
    return np.asarray(places, dtype=bool)


def with_pvc(rng: np.random.Generator, who: Person, rr: Array, places: Mask) -> Beats:
    """Ventricular beats come early and weak; the pause after them pays the missing time back (compensatory)."""
    n, m = rr.shape
    coupling = np.clip(near(rng, who.pvc_coupling, p.PVC_COUPLING, n)[:, None] + rng.normal(0, 0.02, (n, m)), 0.4, 0.9)
    early: Array = np.where(places, coupling * rr, rr)
    debt = np.cumsum(np.where(places, rr - early, 0.0), axis=1)
    paid = np.zeros_like(rr)
    ends = places[:, :-1] & ~places[:, 1:]
    # what has been borrowed since the last pause: the running maximum of what earlier pauses have paid
    settled = np.maximum.accumulate(np.where(ends, debt[:, :-1], 0.0), axis=1)
    before = np.concatenate([np.zeros((n, 1)), settled[:, :-1]], axis=1)
    paid[:, 1:] = np.where(ends, debt[:, :-1] - before, 0.0)
    interpolated = (rng.random((n, 1)) < 0.04) * 1.0
    force = near(rng, who.pvc_strength, p.PVC_STRENGTH, n)[:, None] * rng.uniform(0.85, 1.15, (n, m))
    return Beats(early + paid * (1.0 - interpolated), np.where(places, force, 1.0))


def with_pac(rng: np.random.Generator, who: Person, rr: Array, places: Mask, blocked: Mask) -> Beats:
    """Atrial beats come early and reset the sinus node; in `blocked` windows (n,) they leave a pause without a pulse."""
    n, m = rr.shape
    coupling = near(rng, who.pac_coupling, p.PAC_COUPLING, n)[:, None] + rng.normal(0, 0.05, (n, m))
    factor = np.where(blocked[:, None], draw(rng, p.BLOCKED_PAC, (n, m)), np.clip(coupling, 0.4, 0.92))
    after = np.concatenate([np.zeros((n, 1), bool), places[:, :-1]], axis=1) & ~places & ~blocked[:, None]
    out = np.where(places, factor * rr, np.where(after, draw(rng, p.PAC_RESET, (n, m)) * rr, rr))
    weak = places & ~blocked[:, None]
    return Beats(out, np.where(weak, draw(rng, p.PAC_STRENGTH, (n, m)), 1.0))


def run_mask(rng: np.random.Generator, rr: Array, window_s: float, low: int, high: int) -> Mask:
    """One run of `low`..`high` beats in each window (n, m), partly or wholly visible."""
    n, m = rr.shape
    length = rng.integers(low, high + 1, n)
    first = np.maximum(visible(rng, rr, window_s) - rng.integers(0, np.maximum(length - 2, 1)), 1)
    place = np.arange(m)
    return np.asarray((place >= first[:, None]) & (place < (first + length)[:, None]))


def tachycardia(rng: np.random.Generator, bpm: float, limits: tuple[float, float, float], n: int, m: int) -> Array:
    """Regular fast intervals (n, m) around a person's rate, drifting slowly."""
    rate = np.clip(bpm + rng.normal(0, 8.0, n), limits[0], limits[2])[:, None]
    drift = rng.uniform(-0.06, 0.06, (n, 1)) * np.linspace(-0.5, 0.5, m)
    jitter = draw(rng, p.TACHY_CV, n)[:, None] * rng.normal(size=(n, m))
    return np.asarray(60.0 / rate * (1.0 + drift + jitter))


def fibrillation(rng: np.random.Generator, who: Person, kind: NDArray[np.str_], m: int) -> Array:
    """AF intervals (n, m): gamma-distributed behind a refractory time; regularised and organised (n:1) kinds."""
    n = len(kind)
    mean = 60.0 / np.clip(who.af_bpm + draw(rng, p.AF_BPM_WITHIN, n), 45.0, 165.0)[:, None]
    cv = np.where(kind == "regularised", draw(rng, p.AF_REGULARISED_CV, n), near(rng, who.af_cv, p.AF_CV, n))[:, None]
    floor = np.minimum(draw(rng, p.AF_REFRACTORY_S, n)[:, None], 0.7 * mean)
    shape = ((mean - floor) / (cv * mean)) ** 2
    rr = floor + rng.gamma(shape, 1.0, (n, m)) * (mean - floor) / shape
    cycle = draw(rng, p.ATRIAL_CYCLE_S, n)[:, None]
    usual = np.maximum(np.rint(mean / cycle), 2)
    change = (rng.random((n, m)) < rng.uniform(0.1, 0.5, (n, 1))) * rng.choice([-1, 1, 2], size=(n, m), p=[0.35, 0.45, 0.2])
    organised = cycle * np.maximum(usual + change, 2) * (1.0 + rng.normal(0, 0.02, (n, m)))
    return np.asarray(np.where((kind == "organised")[:, None], organised, rr))


def _sinus(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    kind = kinds(rng, p.SINUS_KINDS, n)
    rr = sinus(rng, who, n, m, kind == "marked")
    single = ectopic_places(rng, np.full(n, "single"), rr, window_s) & (kind == "ectopic")[:, None]
    beats = with_pac(rng, who, rr, single, np.zeros(n, bool))
    inside = run_mask(rng, rr, window_s, 3, max(4, int(window_s / 4))) & (kind == "af_run")[:, None]
    beats.rr = np.where(inside, fibrillation(rng, who, np.full(n, "irregular"), m), beats.rr)
    return beats


def _pvc(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    rr = sinus(rng, who, n, m)
    return with_pvc(rng, who, rr, ectopic_places(rng, kinds(rng, p.PVC_KINDS, n), rr, window_s))


def _pac(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    kind = kinds(rng, p.PAC_KINDS, n)
    rr = sinus(rng, who, n, m)
    return with_pac(rng, who, rr, ectopic_places(rng, kind, rr, window_s), kind == "blocked")


def _vt(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    kind = kinds(rng, p.VT_KINDS, n)
    rr = sinus(rng, who, n, m)
    inside = run_mask(rng, rr, window_s, *p.RUN_BEATS) | (kind == "sustained")[:, None]
    fast = np.where(inside, tachycardia(rng, who.vt_bpm, p.VT_BPM, n, m), rr)
    force = np.clip(1.0 + draw(rng, p.VT_STRENGTH_CV, n)[:, None] * rng.normal(size=(n, m)), 0.1, 2.0)
    return Beats(fast, np.where(inside, force * np.sqrt(who.pvc_strength), 1.0))


def _svt(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    kind = kinds(rng, p.SVT_KINDS, n)
    rr = sinus(rng, who, n, m)
    inside = run_mask(rng, rr, window_s, *p.RUN_BEATS) | (kind == "sustained")[:, None]
    return Beats(np.where(inside, tachycardia(rng, who.svt_bpm, p.SVT_BPM, n, m), rr), np.ones((n, m)))


def _af(rng: np.random.Generator, who: Person, n: int, m: int, window_s: float) -> Beats:
    kind = kinds(rng, p.AF_KINDS, n)
    rr = fibrillation(rng, who, kind, m)
    other = sinus(rng, who, n, m)
    # a paroxysm that begins or ends in the window
    middle = visible(rng, rr, window_s)[:, None]
    outside = (kind == "partial")[:, None] & ((np.arange(m) < middle) ^ (rng.random((n, 1)) < 0.5))
    return Beats(np.where(outside, other, rr), np.ones((n, m)))


Model = Callable[[np.random.Generator, Person, int, int, float], Beats]
MODELS: tuple[Model, ...] = (_sinus, _pvc, _pac, _vt, _svt, _af)
