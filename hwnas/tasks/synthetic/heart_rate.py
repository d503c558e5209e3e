"""`generate`: PPG and acceleration of invented persons who rest, walk, run; the embedded data of `heart_rate`. Touches no files.

A recording is 106 s out of a day of bouts: the load of each bout pulls the heart rate with first-order kinetics, beats follow the rate,
pulses follow the beats as in the generator of rhythms, and the bout's motion leaks into them. Its windows are cut, filtered and scaled as
those of recordings are, in order of time. Recording r of person k depends on the seed, k and r alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from hwnas.errors import DataError
from hwnas.tasks import pulse_motion
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets.resample import resample
from hwnas.tasks.pulse_motion import HOP_S, RATE_HZ, WINDOW_S
from hwnas.tasks.synthetic import heart_rate_parameters as p
from hwnas.tasks.synthetic import parameters, pulse
from hwnas.tasks.synthetic.intervals import LEAD_S, SHORTEST_S, Beats, pink
from hwnas.tasks.synthetic.subject import Person, draw, near, person

Array = NDArray[np.float64]
SUBJECTS = 60
WINDOWS = 3000
WINDOWS_A_RECORDING = 50
RECORDING_S = WINDOW_S + (WINDOWS_A_RECORDING - 1) * HOP_S
SENSOR_HZ = 64.0
WARM_UP_S = 600.0
HARMONICS = 4
TAIL_S = 4.0


@dataclass(frozen=True)
class Runner:
    """A person's pulse wave (`who`), how his heart answers load, and how much of 1 g of motion leaks into the PPG, in pulses."""

    who: Person
    resting_bpm: float
    maximum_bpm: float
    rise_s: float
    recovery_s: float
    coupling: float


@dataclass(frozen=True)
class Bout:
    """One activity from `begin_s` on: the part of the reserve it asks for and its cadence."""

    begin_s: float
    activity: p.Activity
    reserve: float
    stride_hz: float
    acc_g: float


def generate(*, seed: int, subjects: int | None = None, windows: int | None = None) -> Windows:
    """`windows` windows in all (default 3,000) of 8 s every 2 s at 32 Hz from `subjects` persons (default 60).

    Raises:
        DataError: sizes that do not fit together.
    """
    persons, total = SUBJECTS if subjects is None else subjects, WINDOWS if windows is None else windows
    if persons < 1 or total < persons:
        raise DataError(f"signal generator: {total} windows of {persons} subjects; needs at least 1 subject and 1 window of each")
    if seed < 0:
        raise DataError(f"signal generator: seed {seed}; needs an integer of 0 or more")
    share = [total // persons + (k < total % persons) for k in range(persons)]
    made = [_windows_of(seed, k, count) for k, count in enumerate(share)]
    return Windows(
        x=np.concatenate([x for x, _, _ in made]),
        y=np.concatenate([y for _, y, _ in made]),
        subject=np.repeat([f"synthetic-{k:03d}" for k in range(persons)], share),
        rate_hz=RATE_HZ,
        source="synthetic",
        name=f"generator (seed {seed}, {persons} subjects)",
        recording=np.concatenate([recording for _, _, recording in made]),
    )


def _windows_of(seed: int, number: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.str_]]:
    """The first `count` windows (count, 4, 256) of person `number`, their heart rates and recordings."""
    runner = _runner(np.random.default_rng([seed, number, 0]))
    recordings = math.ceil(count / WINDOWS_A_RECORDING)
    made = [_recording(np.random.default_rng([seed, number, 1 + r]), runner) for r in range(recordings)]
    names = np.repeat([f"synthetic-{number:03d}-{r:02d}" for r in range(recordings)], WINDOWS_A_RECORDING)
    return np.concatenate([x for x, _ in made])[:count], np.concatenate([y for _, y in made])[:count], names[:count]


def _runner(rng: np.random.Generator) -> Runner:
    age = float(draw(rng, p.AGE_YEARS))
    return Runner(
        who=person(rng),
        resting_bpm=float(draw(rng, p.RESTING_BPM)),
        maximum_bpm=p.MAXIMUM_AT_BIRTH_BPM - p.MAXIMUM_PER_YEAR_BPM * age + float(np.clip(rng.normal(0, p.MAXIMUM_SPREAD_BPM), -16, 16)),
        rise_s=float(draw(rng, p.RISE_S)),
        recovery_s=float(draw(rng, p.RECOVERY_S)),
        coupling=float(np.exp(rng.normal(*p.COUPLING))),
    )


def _recording(rng: np.random.Generator, runner: Runner) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows (50, 4, 256) of one recording and their heart rates."""
    t = np.arange(round((LEAD_S + RECORDING_S + TAIL_S) * SENSOR_HZ)) / SENSOR_HZ - LEAD_S
    bouts = _bouts(rng)
    beats = _beats(rng, runner, bouts, t)
    inside = (t >= -1e-9) & (t < RECORDING_S - 1e-9)
    acc, leak = _motion(rng, bouts, t)
    coupling = runner.coupling * float(np.exp(rng.normal(0, p.COUPLING_WITHIN)))
    grip = np.exp(p.GRIP_WANDER * _wander(rng, len(t), p.GRIP_S))
    contact = float(np.exp(rng.normal(*p.CONTACT))) * _noise(rng, (len(t),), p.CONTACT_HZ)
    ppg = pulse.waveform(rng, runner.who, beats, SENSOR_HZ, RECORDING_S)[0] + (grip * (coupling * leak + contact))[inside]
    signal = np.concatenate([ppg[None], acc[:, inside]])
    full = np.abs(signal).max(axis=1)
    filtered = pulse_motion.band_pass(resample(signal, SENSOR_HZ, RATE_HZ))
    x, _ = pulse_motion.scale(pulse_motion.cut(filtered, WINDOWS_A_RECORDING), full)
    # the first interval began before the simulation
    y = pulse_motion.beats_in_windows(beats.times_s[0, 1:], 60.0 / beats.rr[0, 1:], WINDOWS_A_RECORDING)
    return x, y.astype(np.float32)


def _bouts(rng: np.random.Generator) -> list[Bout]:
    """Bouts that fill the time from well before the recording to its end; no activity follows itself."""
    shares = np.array([a.share for a in p.ACTIVITIES])
    found: list[Bout] = []
    # a random place of the day: bouts do not begin together with the recording
    begin, last = -WARM_UP_S, -1
    while begin < RECORDING_S + TAIL_S:
        weights = np.where(np.arange(len(shares)) == last, 0.0, shares)
        last = int(rng.choice(len(shares), p=weights / weights.sum()))
        activity = p.ACTIVITIES[last]
        # who works harder steps faster
        effort = float(rng.random())
        pace = float(np.clip(effort + rng.normal(0, 0.25), 0, 1))
        steps = activity.steps_per_min.low + pace * (activity.steps_per_min.high - activity.steps_per_min.low)
        reserve = activity.reserve.low + effort * (activity.reserve.high - activity.reserve.low)
        found.append(Bout(begin, activity, reserve, steps / 120.0, float(draw(rng, activity.acc_g))))
        begin += float(draw(rng, p.BOUT_S))
    return found


def course(runner: Runner, bouts: list[Bout], t: Array) -> Array:
    """Heart rate (T,) in BPM that the bouts' loads set: towards each target exponentially, up faster than down."""
    span = runner.maximum_bpm - runner.resting_bpm
    rate = np.empty_like(t)
    now = runner.resting_bpm
    for bout, end_s in zip(bouts, [*(b.begin_s for b in bouts[1:]), math.inf], strict=True):
        target = runner.resting_bpm + bout.reserve * span
        tau = runner.rise_s if target > now else runner.recovery_s
        here = (t >= bout.begin_s) & (t < end_s)
        rate[here] = target + (now - target) * np.exp(-(t[here] - bout.begin_s) / tau)
        now = target + (now - target) * math.exp(-(end_s - bout.begin_s) / tau)
    return rate


def _beats(rng: np.random.Generator, runner: Runner, bouts: list[Bout], t: Array) -> Beats:
    """Beats (1, m) at the heart rate of the bouts, with variability that falls with the load."""
    who = runner.who
    rate = course(runner, bouts, t) + float(draw(rng, p.WANDER_BPM)) * _wander(rng, len(t), p.WANDER_S)
    used = np.clip((rate - runner.resting_bpm) / (runner.maximum_bpm - runner.resting_bpm), 0, 1)
    turn = rng.uniform(0, 2 * np.pi, 2)
    breath = near(rng, who.respiration_hz, parameters.RESPIRATION_HZ, 1)[0]
    share = near(rng, who.rsa_share, parameters.RSA_SHARE, 1)[0] * np.sin(2 * np.pi * breath * t + turn[0])
    share += float(draw(rng, parameters.LF_SHARE)) * np.sin(2 * np.pi * float(draw(rng, parameters.MAYER_HZ)) * t + turn[1])
    seconds = np.arange(math.floor(t[0]), math.ceil(t[-1]) + 1.0)
    slow = pink(rng, 1, len(seconds) + len(seconds) % 2)[0, : len(seconds)]
    share += float(draw(rng, parameters.PINK_SHARE)) * np.interp(t, seconds, slow)
    rate = np.clip(rate * (1 + share * (1 - (1 - p.HRV_LEFT) * used)), 35.0, 60.0 / SHORTEST_S)
    beat = np.cumsum(rate) / 60.0 / SENSOR_HZ + rng.random()
    times = np.interp(np.arange(math.floor(beat[0]) + 1, math.floor(beat[-1])), beat, t)
    return Beats(np.diff(times, prepend=-LEAD_S)[None], np.ones((1, len(times))))


def _motion(rng: np.random.Generator, bouts: list[Bout], t: Array) -> tuple[Array, Array]:
    """Acceleration (3, T) in g, and what it leaks (T,) at a coupling of 1: itself, delayed, and its rhythm in another shape."""
    acc, leak = np.zeros((3, len(t))), np.zeros(len(t))
    toward = rng.normal(size=3)
    toward /= np.linalg.norm(toward)
    delay, linear = round(float(draw(rng, p.DELAY_S)) * SENSOR_HZ), float(draw(rng, p.LINEAR))
    for bout, end_s in zip(bouts, [*(b.begin_s for b in bouts[1:]), math.inf], strict=True):
        here = np.flatnonzero((t >= bout.begin_s) & (t < end_s))
        if len(here) == 0:
            continue
        moves = _moves(rng, bout, len(here))
        acc[:, here] = bout.acc_g * moves[:3]
        leak[here] = bout.acc_g**p.LEAK_POWER * (linear * toward @ np.roll(moves[:3], delay, axis=1) + (1 - linear) * moves[3])
    return acc + float(draw(rng, p.SENSOR_G)) * rng.normal(size=acc.shape), leak


def _moves(rng: np.random.Generator, bout: Bout, samples: int) -> Array:
    """Motion (4, samples) of a bout, of about unit deviation: three axes, and a fourth shape of the same rhythm."""
    cadence = bout.stride_hz * (1 + p.CADENCE_WANDER * _wander(rng, samples, 5.0))
    phase = 2 * np.pi * (np.cumsum(cadence) / SENSOR_HZ + rng.random())
    swing, random = float(draw(rng, bout.activity.swing)), float(draw(rng, bout.activity.random))
    # harmonic 1 of the stride is the swing of the arm, the even ones are the steps; the others tell left from right
    steps = float(draw(rng, p.HARMONIC_FALL)) ** np.arange(HARMONICS // 2)
    weight = np.zeros((4, HARMONICS))
    weight[:, 0], weight[:, 1::2] = swing, (1 - swing) * steps
    weight[:, 2::2] = 0.3 * weight[:, 1:-1:2]
    weight *= rng.gamma(2.0, 0.5, weight.shape)
    weight *= math.sqrt(2) / np.linalg.norm(weight, axis=1, keepdims=True)
    turn = rng.uniform(0, 2 * np.pi, (*weight.shape, 1))
    waves = np.einsum("ch,cht->ct", weight, np.sin(np.arange(1, HARMONICS + 1)[:, None] * phase + turn))
    # motion without a period comes in bursts
    burst = np.exp(p.BURST * _wander(rng, samples, p.BURST_S) - p.BURST**2)
    moves = math.sqrt(1 - random**2) * waves + random * burst * _noise(rng, (4, samples), p.RANDOM_HZ)
    edge = np.arange(samples) + 1.0
    return np.asarray(moves * np.clip(np.minimum(edge, edge[::-1]) / (p.EDGE_S * SENSOR_HZ), 0, 1))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], band_hz: tuple[float, float]) -> Array:
    """Noise of about unit deviation in a band, along the last axis."""
    white = rng.normal(scale=math.sqrt(SENSOR_HZ / 2 / (band_hz[1] - band_hz[0])), size=shape)
    return np.asarray(sosfilt(_band(band_hz), white, axis=-1))


@lru_cache(maxsize=4)
def _band(band_hz: tuple[float, float]) -> Array:
    return np.asarray(butter(2, band_hz, "bandpass", fs=SENSOR_HZ, output="sos"))


def _wander(rng: np.random.Generator, samples: int, correlation_s: float) -> Array:
    """First-order noise (samples,) of unit deviation."""
    keep = math.exp(-1 / (correlation_s * SENSOR_HZ))
    shocks = math.sqrt(1 - keep**2) * rng.normal(size=samples)
    out, _ = lfilter([1.0], [1.0, -keep], shocks, zi=[keep * rng.normal()])
    return np.asarray(out)
