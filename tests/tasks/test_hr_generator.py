"""The generator of `heart_rate`: its contract with seeds and sizes, kinetics in closed form, motion that leaks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows
from hwnas.tasks.synthetic import heart_rate as generator
from hwnas.tasks.synthetic import heart_rate_parameters as parameters
from hwnas.tasks.synthetic.heart_rate import Bout, Runner
from hwnas.tasks.synthetic.parameters import Range
from hwnas.tasks.synthetic.subject import person


def generate(subjects: int = 6, windows: int = 300, seed: int = 0) -> Windows:
    return generator.generate(seed=seed, subjects=subjects, windows=windows)


def peaks(x: NDArray[np.float32]) -> NDArray[np.float64]:
    spectrum, hz = np.abs(np.fft.rfft(x, 4096, axis=1)), np.fft.rfftfreq(4096, 1 / 32)
    band = (hz >= 0.6) & (hz <= 3.7)
    return np.asarray(60 * hz[band][spectrum[:, band].argmax(axis=1)])


def test_what_it_gives() -> None:
    found = generate()
    assert found.x.shape == (300, 4, 256) and found.x.dtype == found.y.dtype == np.float32
    assert (found.rate_hz, found.window_s, found.source) == (32.0, 8.0, "synthetic")
    assert np.array_equal(found.x.min(axis=2), -np.ones((300, 4))) and np.array_equal(found.x.max(axis=2), np.ones((300, 4)))
    assert np.isfinite(found.y).all() and found.y.min() > 40 and found.y.max() < 210
    assert len(found.subjects) == 6 and len(np.unique(found.recordings)) == 6
    # windows of a recording overlap by 6 s and are in order: three quarters of each are in the next, but for its scale
    one = found.x[0:50, 1].astype(float)
    shared = [np.corrcoef(one[i, 64:], one[i + 1, :192])[0, 1] for i in range(49)]
    assert min(shared) > 0.9999


def test_a_person_depends_on_the_seed_and_his_number_alone() -> None:
    few, many = generate(3, 90), generate(5, 400)
    for k, name in enumerate(few.subjects):
        mine, his = few.take(few.subject == name), many.take(many.subject == name)
        assert name == f"synthetic-{k:03d}" and np.array_equal(mine.x, his.x[:30]) and np.array_equal(mine.y, his.y[:30])
        assert mine.recordings.tolist() == his.recordings[:30].tolist()
    assert generate().hash == generate().hash != generate(seed=1).hash
    # 80 windows are more than one recording of 50
    assert len(np.unique(many.recordings)) == 10


@pytest.mark.parametrize(("subjects", "windows", "seed"), [(0, 10, 0), (5, 4, 0), (2, 10, -1)])
def test_sizes_that_do_not_fit(subjects: int, windows: int, seed: int) -> None:
    with pytest.raises(DataError, match="signal generator"):
        generate(subjects, windows, seed)


def test_kinetics_are_first_order_up_and_down() -> None:
    runner = Runner(person(np.random.default_rng(0)), 60.0, 180.0, 30.0, 90.0, 1.0)
    rest, run = parameters.ACTIVITIES[0], parameters.ACTIVITIES[3]
    bouts = [Bout(-600.0, rest, 0.0, 1.0, 0.01), Bout(0.0, run, 0.5, 1.4, 1.0), Bout(300.0, rest, 0.0, 1.0, 0.01)]
    t = np.array([-10.0, 0.0, 30.0, 299.9, 390.0])
    top = 120 - 60 * np.exp(-10)
    expected = [60.0, 60.0, 120 - 60 / np.e, 120 - 60 * np.exp(-299.9 / 30), 60 + (top - 60) / np.e]
    assert generator.course(runner, bouts, t) == pytest.approx(expected, rel=1e-9)


def test_bouts_fill_the_recording_and_change() -> None:
    for seed in range(20):
        bouts = generator._bouts(np.random.default_rng(seed))
        begins = [bout.begin_s for bout in bouts]
        assert begins[0] == -generator.WARM_UP_S and bouts[-1].begin_s < generator.RECORDING_S + generator.TAIL_S
        assert all(30 <= b - a <= 180 for a, b in pairwise(begins))
        assert all(a.activity is not b.activity for a, b in pairwise(bouts))
        for bout in bouts:
            assert bout.activity.reserve.low <= bout.reserve <= bout.activity.reserve.high
            assert bout.activity.steps_per_min.low <= 120 * bout.stride_hz <= bout.activity.steps_per_min.high


def test_motion_has_its_cadence_and_leaks_it() -> None:
    run = parameters.ACTIVITIES[3]
    bout = Bout(-600.0, run, 0.6, 1.4, 1.2)
    t = np.arange(64 * 60) / 64
    acc, leak = generator._motion(np.random.default_rng(0), [bout], t)
    hz = np.fft.rfftfreq(len(t), 1 / 64)
    for signal in (*acc, leak):
        power = np.abs(np.fft.rfft(signal)) ** 2
        lines = np.abs(hz[:, None] - 1.4 * np.arange(1, 5)).min(axis=1) < 0.2
        assert power[lines].sum() > 0.6 * power[hz > 0.2].sum()
    assert 0.5 < acc.std() / 1.2 < 1.6


def test_windows_are_as_hard_as_recordings_are() -> None:
    """The largest peak of the spectrum finds the rate in half to three quarters of the windows; where it errs it follows the motion."""
    found = generate(30, 1500)
    error = np.abs(peaks(found.x[:, 0]) - found.y)
    assert 0.5 < (error < 3).mean() < 0.75
    motion = np.stack([peaks(found.x[:, axis]) for axis in (1, 2, 3)])
    wrong = error > 5
    near = np.abs(peaks(found.x[:, 0]) - motion[:, None] * np.array([0.5, 1, 2])[None, :, None]).min(axis=(0, 1)) < 4
    assert near[wrong].mean() > 0.6
    # rest and exercise both
    assert np.percentile(found.y, 5) < 75 and np.percentile(found.y, 95) > 140


def test_every_range_has_its_source() -> None:
    loose = {name: value for name, value in vars(parameters).items() if isinstance(value, Range)}
    inside = {f"{a.name}.{field}": value for a in parameters.ACTIVITIES for field, value in a._asdict().items() if isinstance(value, Range)}
    assert len(loose) >= 10 and len(inside) == 5 * len(parameters.ACTIVITIES)
    for name, span in (loose | inside).items():
        assert span.low <= span.high and span.source.strip(), name
    assert sum(activity.share for activity in parameters.ACTIVITIES) == pytest.approx(1.0)
