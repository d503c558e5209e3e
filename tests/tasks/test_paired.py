"""Paired BCG or SCG and ECG: heart rates of the one from the R waves of the other, on made files and on the two published recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from hwnas.errors import DataError
from hwnas.tasks.datasets import paired, rpeaks
from hwnas.tasks.synthetic import sleep, sleep_signals
from hwnas.tasks.synthetic import sleep_parameters as p

RATE = 400.0


def made(seconds: float = 60.0, bpm: float = 72.0, seed: int = 0) -> dict[str, NDArray[Any]]:
    """An ECG of spikes and an SCG of bursts 0.1 s later, at a rate that drifts."""
    rng = np.random.default_rng(seed)
    rr = 60 / bpm * (1 + 0.02 * np.sin(np.arange(300) / 5))
    beats = np.cumsum(rr)
    beats = beats[beats < seconds - 0.5]
    t = np.arange(round(seconds * RATE)) / RATE
    ecg, scg = 0.01 * rng.normal(size=(2, len(t)))
    for beat in beats:
        ecg += np.exp(-0.5 * ((t - beat) / 0.012) ** 2)
        scg += np.exp(-0.5 * ((t - beat - 0.1) / 0.04) ** 2) * np.cos(2 * np.pi * 12 * (t - beat - 0.1))
    return {"scg": scg, "ecg": ecg, "Rpeaks": np.round(beats * RATE).astype(int) + 1, "fs": np.array([RATE])}


def write(folder: Path, content: dict[str, Any], name: str = "data.mat") -> Path:
    folder.mkdir(exist_ok=True)
    savemat(folder / name, {key: np.atleast_2d(value).T for key, value in content.items()})
    return folder


def test_signals_beats_and_heart_rates(tmp_path: Path) -> None:
    content = made()
    (pair,) = paired.load(write(tmp_path / "scg", content))
    assert (pair.kind, pair.rate_hz, pair.name) == ("scg", RATE, "scg/data")
    # R peaks count from 1: what was marked is the top of the wave
    assert all(pair.ecg[k] > max(pair.ecg[k - 8], pair.ecg[k + 8]) for k in pair.marked)
    windows = paired.windows(pair, pair.marked)
    assert windows.x.shape == windows.teacher_x.shape == (27, 1, 400) and windows.y.dtype == np.float32  # type: ignore[union-attr]
    assert 70 < windows.y.min() <= windows.y.max() < 74
    assert np.abs(paired.estimate_bpm(windows.x, 50.0, "scg") - windows.y).max() < 1.5
    beats = rpeaks.detect(pair.ecg, RATE)
    assert paired.agreement(beats, pair.marked, RATE) == (1.0, 1.0)


def test_agreement_counts_each_beat_once() -> None:
    marked = np.array([100, 200, 300, 400])
    assert paired.agreement(marked, marked, 100.0) == (1.0, 1.0)
    # 5 samples are 50 ms; two found for one beat, one too far off, one missed
    assert paired.agreement(np.array([98, 102, 205, 306]), marked, 100.0) == (2 / 4, 2 / 4)
    assert paired.agreement(np.array([], dtype=int), marked, 100.0) == (0.0, 0.0)
    assert paired.agreement(np.array([103]), marked, 100.0) == (1 / 4, 1.0)


@pytest.mark.parametrize("bpm", [45.0, 60.0, 90.0, 120.0, 150.0])
def test_the_estimate_of_a_pulse_train(bpm: float) -> None:
    t = np.arange(400) / 50
    beats = np.arange(0, 9, 60 / bpm)
    x = sum(np.exp(-0.5 * ((t - b) / 0.05) ** 2) * np.cos(2 * np.pi * 8 * (t - b)) for b in beats)
    assert paired.estimate_bpm(np.asarray(x)[None, None], 50.0, "scg")[0] == pytest.approx(bpm, abs=2.0)


def test_the_generators_bcg_shows_the_heart_rate_of_its_ecg() -> None:
    """The premise of teaching BCG by ECG, on generated nights: both show one heart."""
    errors, truths = [], []
    for k in range(4):
        night, who = sleep.course_of(3, k), sleep_signals.body(np.random.default_rng([3, k]))
        starts = np.arange(100, 800, 20) * p.EPOCH_S
        calm = [a for a in starts if not ((night.moves_s + night.moves_length_s > a) & (night.moves_s < a + p.EPOCH_S)).any()]
        bcg = sleep_signals.bcg(np.random.default_rng(k), who, night, np.array(calm), noise=p.BCG_NOISE["low"])
        truth = rpeaks.heart_rates(night.beats_s, np.array(calm), p.EPOCH_S)
        errors.append(np.abs(paired.estimate_bpm(bcg[:, None], 50.0, "bcg") - truth))
        truths.append(truth)
    everyone = np.concatenate(truths)
    assert np.median(np.concatenate(errors)) < 0.4 * np.median(np.abs(everyone - np.median(everyone)))


WRONG = {
    "no ECG": ({"ecg": None}, "'ecg' is missing|'bcg' is missing"),
    "unequal": ({"ecg": np.zeros(100)}, "must be as long"),
    "a gap": ({"scg": np.full(24000, np.nan)}, "without gaps"),
    "beats outside": ({"Rpeaks": np.array([5, 10**7])}, "growing numbers of samples"),
    "beats from 0": ({"Rpeaks": np.array([0, 500])}, "growing numbers"),
    "beats that fall": ({"Rpeaks": np.array([500, 400])}, "growing numbers"),
    "rate": ({"fs": np.array([1.0])}, "sampled at 1 Hz"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_are_not_trusted(tmp_path: Path, case: str) -> None:
    changed, said = WRONG[case]
    content = {key: value for key, value in {**made(), **changed}.items() if value is not None}
    with pytest.raises(DataError, match=said) as caught:
        paired.load(write(tmp_path, content))
    assert "data.mat" in str(caught.value)


def test_too_short_and_not_there(tmp_path: Path) -> None:
    (pair,) = paired.load(write(tmp_path / "a", made(7.0)))
    with pytest.raises(DataError, match="heart rates are of 8 s"):
        paired.windows(pair, pair.marked)
    with pytest.raises(DataError, match="no data"):
        paired.load(tmp_path)
    assert not paired.matches(tmp_path)


def test_the_published_scg(real_data: Callable[[str], Path]) -> None:
    (pair,) = paired.load(real_data("bcg/autotempmatch_scg_ecg"))
    beats = rpeaks.detect(pair.ecg, pair.rate_hz)
    sensitivity, precision = paired.agreement(beats, pair.marked, pair.rate_hz)
    assert len(pair.marked) == 286 and sensitivity > 0.99 and precision > 0.99
    windows = paired.windows(pair, beats)
    # heart rates of detected and of marked beats are the same
    assert np.abs(windows.y - paired.windows(pair, pair.marked).y).max() < 0.5
    # the SCG shows the heart rate of the ECG, better than a guess of the recording's median
    error = np.abs(paired.estimate_bpm(windows.x, 50.0, pair.kind) - windows.y)
    assert error.mean() < 1.0 < np.abs(windows.y - np.median(windows.y)).mean()


def test_the_published_bcg(real_data: Callable[[str], Path]) -> None:
    """Twenty seconds: the beats of its ECG agree; its own estimate is near, which six windows do not prove."""
    (pair,) = paired.load(real_data("bcg/aydnzn_paired_bcg_ecg"))
    assert (pair.kind, pair.rate_hz, len(pair.marked)) == ("bcg", 1000.0, 28)
    beats = rpeaks.detect(pair.ecg, pair.rate_hz)
    assert min(paired.agreement(beats, pair.marked, pair.rate_hz)) > 0.96
    windows = paired.windows(pair, beats)
    assert np.abs(paired.estimate_bpm(windows.x, 50.0, pair.kind) - windows.y).mean() < 6.0
