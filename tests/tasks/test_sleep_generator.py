"""The sleep generator: repeatable, its nights and hearts are what their stages say, and both signals show the same beats."""

from __future__ import annotations

import numpy as np
import pytest
import sleepecg
from numpy.typing import NDArray
from scipy.signal import resample_poly

from hwnas.errors import DataError
from hwnas.tasks import TASKS, split_by_subject
from hwnas.tasks.synthetic import sleep, sleep_night, sleep_signals
from hwnas.tasks.synthetic import sleep_parameters as p
from hwnas.tasks.synthetic.sleep_night import Night

NIGHTS = 12


@pytest.fixture(scope="module")
def nights() -> list[Night]:
    return [sleep.course_of(11, k) for k in range(NIGHTS)]


def by_stage(nights: list[Night], of: int) -> list[tuple[Night, NDArray[np.float64]]]:
    """Beginnings of epochs inside stretches of a stage, whose neighbours are of it too."""
    found = []
    for night in nights:
        same = night.stage == of
        inner = np.flatnonzero(same[1:-1] & same[:-2] & same[2:]) + 1
        found.append((night, inner * p.EPOCH_S))
    return found


def intervals(nights: list[Night], of: int) -> list[NDArray[np.float64]]:
    """RR intervals of each such epoch."""
    out = []
    for night, starts in by_stage(nights, of):
        for a in starts:
            inside = night.beats_s[(night.beats_s >= a) & (night.beats_s < a + p.EPOCH_S)]
            out.append(np.diff(inside))
    return out


def test_same_seed_same_windows_and_other_seed_others() -> None:
    one, two = (sleep.generate(seed=3, noise="medium", subjects=2, windows=20) for _ in range(2))
    assert one.hash == two.hash
    assert one.hash != sleep.generate(seed=4, noise="medium", subjects=2, windows=20).hash


def test_noise_changes_the_bcg_and_nothing_else() -> None:
    low, medium, high = (sleep.generate(seed=1, noise=level, subjects=2, windows=60) for level in ("low", "medium", "high"))
    assert np.array_equal(low.seen_by_teacher, high.seen_by_teacher) and np.array_equal(low.y, high.y)
    rough = [np.abs(np.diff(w.x[:, 0], n=2, axis=1)).mean() for w in (low, medium, high)]
    assert rough[0] < rough[1] < rough[2]


def test_a_night_does_not_depend_on_how_many_are_asked_for() -> None:
    few = sleep.generate(seed=5, noise="low", subjects=2, windows=2 * 40)
    many = sleep.generate(seed=5, noise="low", subjects=3, windows=3 * 80)
    for name in few.subjects:
        a, b = few.take(few.subject == name), many.take(many.subject == name)
        assert np.array_equal(a.y, b.y[::2])  # twice as many windows of one night: every other is the same epoch


def test_shapes_scale_and_order() -> None:
    found = sleep.generate(seed=0, noise="medium", subjects=3, windows=50)
    assert found.teacher_x is not None
    for x in (found.x, found.teacher_x):
        assert x.shape == (50, 1, 1500) and x.dtype == np.float32
        assert (x.min(axis=2) == -1).all() and (x.max(axis=2) == 1).all()
    assert (found.source, found.rate_hz, found.window_s, found.y.dtype) == ("synthetic", 50.0, 30.0, np.int64)
    assert [int((found.subject == s).sum()) for s in found.subjects] == [17, 17, 16]
    night = sleep.course_of(0, 1)
    assert np.array_equal(found.y[found.subject == "synthetic-001"], night.stage[np.arange(17) * 960 // 17])


def test_a_split_holds_every_stage_in_every_part() -> None:
    found = TASKS["sleep"].load(None, window_s=None, seed=0, subjects=12, windows=600)
    split = split_by_subject(found, 0, TASKS["sleep"])
    for part in (split.train, split.validation, split.test):
        assert (np.bincount(part.y, minlength=4) >= 5).all()


def test_sizes_that_do_not_fit_are_refused() -> None:
    for wrong in ({"subjects": 0}, {"subjects": 5, "windows": 4}, {"subjects": 1, "windows": 961}):
        with pytest.raises(DataError, match="signal generator"):
            sleep.generate(seed=0, noise="low", **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="seed -1"):
        sleep.generate(seed=-1, noise="low")


def test_nights_go_from_stage_to_stage_as_counted() -> None:
    """Constant rates give the counted chain: shares of stages are its stationary distribution."""
    counts = np.array(p.TRANSITIONS, dtype=float)
    chain = counts / counts.sum(axis=1, keepdims=True)
    value, vector = np.linalg.eig(chain.T)
    stationary = np.real(vector[:, np.argmax(np.real(value))])
    stationary /= stationary.sum()
    stages = np.concatenate([sleep_night.hypnogram(np.random.default_rng([2, k])) for k in range(30)])
    shares = np.bincount(stages, minlength=4) / len(stages)
    assert np.abs(shares - stationary).max() < 0.08
    # stages last: a night changes stage some 30 to 90 times, not at every epoch
    assert 0.02 < (np.diff(stages) != 0).mean() < 0.1


def test_deep_sleep_comes_first_and_rem_last() -> None:
    stages = np.array([sleep_night.hypnogram(np.random.default_rng([9, k])) for k in range(30)])
    third = p.EPOCHS // 3
    deep, rem = ([float((stages[:, i * third : (i + 1) * third] == s).mean()) for i in range(3)] for s in (p.DEEP, p.REM))
    assert deep[0] > deep[1] > deep[2] and rem[0] < rem[1] < rem[2]
    assert (stages[:, 0] == p.WAKE).all()
    for night in stages:
        first = np.flatnonzero(night == p.REM)
        assert not len(first) or (night[: first[0]] != p.WAKE).sum() * p.EPOCH_S >= p.FIRST_REM_S


def test_hearts_are_of_their_stage(nights: list[Night]) -> None:
    rr = {stage: intervals(nights, stage) for stage in range(4)}
    bpm = {stage: np.median([60 / each.mean() for each in found]) for stage, found in rr.items()}
    rmssd = {stage: np.median([1000 * np.sqrt(np.mean(np.diff(each) ** 2)) for each in found]) for stage, found in rr.items()}
    assert bpm[p.WAKE] > bpm[p.REM] > bpm[p.DEEP]
    assert rmssd[p.DEEP] > rmssd[p.REM]
    # Task Force 1996: at rest tens of milliseconds
    assert all(15 < each < 120 for each in rmssd.values()) and all(40 < each < 100 for each in bpm.values())
    # slow changes within 30 s: the means of 10 s differ more awake than in deep sleep
    slow = {s: np.median([np.std([x.mean() for x in np.array_split(each, 3)]) for each in rr[s]]) for s in (p.WAKE, p.DEEP)}
    assert slow[p.WAKE] > 1.5 * slow[p.DEEP]


def test_the_heart_follows_the_breath() -> None:
    """The line of the RR intervals in deep sleep lies at the rate of the breath."""
    lines = []
    for k in range(6):
        night = sleep.course_of(21, k)
        for a in by_stage([night], p.DEEP)[0][1][:20]:
            t = a + np.arange(120) / 4
            rr = np.interp(t, night.beats_s[1:], np.diff(night.beats_s))
            breath = np.interp(t, night.grid_s, night.breath)
            f = np.fft.rfftfreq(120, 0.25)
            inside = f > 0.14
            power = [np.abs(np.fft.rfft((x - x.mean()) * np.hanning(120)))[inside] for x in (rr, breath)]
            lines.append(f[inside][power[0].argmax()] - f[inside][power[1].argmax()])
    assert np.median(np.abs(lines)) <= 0.034


def test_breath_is_most_regular_in_deep_sleep(nights: list[Night]) -> None:
    spread = {}
    for stage in range(4):
        found = []
        for night, starts in by_stage(nights, stage):
            for a in starts[::3]:
                inside = (night.grid_s >= a) & (night.grid_s < a + p.EPOCH_S)
                breath, t = night.breath[inside], night.grid_s[inside]
                up = t[1:][(breath[1:] > 0) & (breath[:-1] <= 0)]
                if len(up) > 3:
                    found.append(np.diff(up).std() / np.diff(up).mean())
                    assert 6 < 60 / np.diff(up).mean() < 40
        spread[stage] = np.median(found)
    assert spread[p.DEEP] < spread[p.LIGHT] < min(spread[p.REM], spread[p.WAKE])


def test_people_move_mostly_awake(nights: list[Night]) -> None:
    moves = np.zeros(4)
    for night in nights:
        moves += np.bincount(night.stage[np.clip(night.moves_s // p.EPOCH_S, 0, p.EPOCHS - 1).astype(int)], minlength=4)
    epochs = np.bincount(np.concatenate([n.stage for n in nights]), minlength=4)
    per_epoch = moves / epochs
    assert per_epoch[p.WAKE] > 3 * max(per_epoch[p.LIGHT], per_epoch[p.REM]) and per_epoch[p.DEEP] < per_epoch[p.LIGHT]


def still_epochs(night: Night, count: int) -> NDArray[np.float64]:
    """Beginnings of epochs without movements."""
    starts = np.arange(1, p.EPOCHS - 1) * p.EPOCH_S
    ends = night.moves_s + night.moves_length_s
    calm = [a for a in starts if not ((ends > a) & (night.moves_s < a + p.EPOCH_S)).any()]
    return np.array(calm[:: max(1, len(calm) // count)][:count])


def test_r_waves_of_the_ecg_are_the_beats() -> None:
    """A detector that knows nothing of the generator finds the beats of the night in its ECG."""
    hits = beats = found = 0
    for k in range(3):
        night, who = sleep.course_of(4, k), sleep_signals.body(np.random.default_rng([4, k]))
        starts = still_epochs(night, 20)
        ecg = sleep_signals.ecg(np.random.default_rng(k), who, night, starts)
        for a, x in zip(starts, ecg, strict=True):
            # the detector's filter goes up to 30 Hz
            peaks = sleepecg.detect_heartbeats(resample_poly(x, 4, 1), 200) / 200 + a
            true = night.beats_s[(night.beats_s > a + 1) & (night.beats_s < a + p.EPOCH_S - 1)]
            near = np.abs(true[:, None] - peaks).min(axis=1) < 0.05 if len(peaks) else np.zeros(len(true), bool)
            hits, beats = hits + int(near.sum()), beats + len(true)
            found += int(((peaks > a + 1) & (peaks < a + p.EPOCH_S - 1)).sum())
    assert hits > 0.98 * beats and found < 1.02 * beats


def test_the_bcg_answers_every_beat_at_its_delay() -> None:
    """Without noise and movements the BCG after R waves is one shape for each way of lying; at other moments it is no such shape."""
    night, who = sleep.course_of(8, 1), sleep_signals.body(np.random.default_rng(8))
    starts = still_epochs(night, 40)
    bcg = sleep_signals.bcg(np.random.default_rng(0), who, night, starts, noise=0.0)
    rng = np.random.default_rng(1)
    after_beats, anywhere = [], []
    for a, x in zip(starts, bcg, strict=True):
        t = a + np.arange(1500) / 50
        for beat in night.beats_s[(night.beats_s > a + 1) & (night.beats_s < a + p.EPOCH_S - 2)]:
            after_beats.append(np.interp(beat + np.arange(0, 0.5, 0.02), t, x))
            anywhere.append(np.interp(rng.uniform(a + 1, a + 28) + np.arange(0, 0.5, 0.02), t, x))
    explained = []
    for cuts in (after_beats, anywhere):
        shapes = np.array(cuts) - np.mean(cuts, axis=1, keepdims=True)
        shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
        values = np.linalg.svd(shapes, compute_uv=False) ** 2
        explained.append(values[: p.POSTURES].sum() / values.sum())
    assert explained[0] > 0.9 and explained[1] < explained[0] - 0.1
    peak = np.abs(np.array(after_beats) - np.median(after_beats, axis=1, keepdims=True)).argmax(axis=1) * 0.02
    # the R-J interval, give or take a wave of the complex
    assert ((peak > 0.08) & (peak < 0.4)).mean() > 0.85
