"""From recordings to windows with heart rates: rates that differ, gaps, lost pulses, labels that lack a signal and the reverse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_heart_rates import wrist

from hwnas.errors import DataError
from hwnas.tasks.datasets import tracks
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.datasets.tracks import Track

WANTED = Wanted(32.0)


def track(seconds: float = 30.0, ppg_hz: float = 64.0, acc_hz: float = 32.0, windows: int = 12, bpm: float = 75.0, **change: Any) -> Track:
    ppg, _ = wrist(seconds, ppg_hz, bpm)
    _, acc = wrist(seconds, acc_hz, bpm)
    return replace(Track(Path("p.mat"), "anna", "anna-1", ppg, ppg_hz, acc, acc_hz, bpm + np.arange(float(windows))), **change)


def read(*found: Track) -> Recordings:
    return tracks.assemble("made", iter(found), WANTED)


@pytest.mark.parametrize(("ppg_hz", "acc_hz"), [(64.0, 32.0), (125.0, 125.0), (50.0, 50.0), (32.0, 32.0), (25.0, 100.0)])
def test_signals_of_any_rate_keep_their_time(ppg_hz: float, acc_hz: float) -> None:
    found = read(track(ppg_hz=ppg_hz, acc_hz=acc_hz))
    windows = found.windows
    assert windows.x.shape == (12, 4, 256) and windows.y.dtype == np.float32 and windows.y.tolist() == list(range(75, 87))
    assert (
        set(windows.subject) == {"anna"} and set(windows.recordings) == {"anna-1"} and found.recorded_hz == tuple(sorted({ppg_hz, acc_hz}))
    )
    for i in (3, 7):
        t = 2 * i + np.arange(256) / 32
        for channel, expected in ((0, np.sin(2 * np.pi * 1.25 * t) + 0.3 * np.sin(5 * np.pi * t)), (2, np.sin(2 * np.pi * 1.9 * t))):
            assert np.corrcoef(windows.x[i, channel], expected)[0, 1] > 0.995


def test_gaps_and_lost_pulses_leave_windows_out() -> None:
    good = track()
    gap, lost, rest = good.ppg.copy(), good.ppg.copy(), good.acc.copy()
    gap[64 * 9] = np.nan
    found = read(replace(good, ppg=gap))
    # second 9 lies in the windows that begin at 2, 4, 6 and 8
    assert found.left_out == {"a gap (NaN)": 4} and found.windows.y.tolist() == [75, 80, 81, 82, 83, 84, 85, 86]
    lost[64 * 12 : 64 * 14] = 7.0
    assert read(replace(good, ppg=lost)).left_out == {"a flat stretch": 4}
    lost[64 * 12 : 64 * 14] = np.arange(128) % 2
    assert read(replace(good, ppg=lost)).left_out == {}
    acc = good.acc.copy()
    acc[1, 32 * 9] = np.inf
    assert read(replace(good, acc=acc)).left_out == {"a gap (NaN)": 4}
    # an arm that rests is no fault
    rest[:] = np.array([[0.1], [0.0], [-1.0]])
    still = read(replace(good, acc=rest)).windows
    assert len(still) == 12 and not still.x[:, 1:].any()
    assert np.array_equal(still.x[:, 0], read(good).windows.x[:, 0])


def test_a_gap_disturbs_no_window_beyond_the_filter() -> None:
    good = track(seconds=60.0, windows=27)
    gap = good.ppg.copy()
    gap[64 * 20 : 64 * 24] = np.nan
    whole, holed = read(good).windows, read(replace(good, ppg=gap)).windows
    far = whole.take(np.flatnonzero(np.isin(whole.y, holed.y) & (np.abs(whole.y - 75 - 9) > 9)))
    near = holed.take(np.flatnonzero(np.isin(holed.y, far.y)))
    assert len(far) > 5 and np.abs(far.x - near.x).max() < 0.01


def test_labels_and_windows_of_different_number_are_told() -> None:
    more = read(track(windows=14))
    assert len(more.windows) == 12 and more.left_out == {"a heart rate for which there is no signal": 2}
    assert more.notes == ("anna-1: 14 heart rates, a signal of 12 windows; what both have is used",)
    fewer = read(track(windows=9))
    assert len(fewer.windows) == 9 and fewer.left_out == {"no heart rate": 3}
    with pytest.raises(DataError, match=r"p\.mat: 9 heart rates for a signal of 12 windows"):
        tracks.check_count(track(windows=9))
    unknown = track()
    unknown.bpm[4] = np.nan
    assert read(unknown).windows.y.tolist() == [75, 76, 77, 78, 80, 81, 82, 83, 84, 85, 86]
    # one recording's lack moves nobody else's labels
    both = read(track(windows=9), replace(track(bpm=120.0), subject="bert", recording="bert-1"))
    assert both.windows.y[both.windows.subject == "bert"].tolist() == list(range(120, 132)) and both.files == 2


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "window 3 has the heart rate 0 BPM"), (400.0, "400 BPM"), (np.inf, "inf BPM"), (-5.0, "-5")]
)
def test_heart_rates_that_cannot_be_are_refused(value: float, said: str) -> None:
    wrong = track()
    wrong.bpm[3] = value
    with pytest.raises(DataError, match=said):
        read(wrong)


def test_nothing_left_is_said() -> None:
    with pytest.raises(DataError, match=r"no window can be used .*no heart rate"):
        read(replace(track(), bpm=np.full(12, np.nan)))
    with pytest.raises(DataError, match="no window can be used"):
        read(track(seconds=6.0, windows=0))
    with pytest.raises(DataError, match="asked for windows of 10 s"):
        tracks.assemble("made", iter([track()]), Wanted(32.0, 10.0))


def test_rates_of_samples_become_rates_of_windows() -> None:
    bpm = np.repeat([60.0, 90.0, np.nan], 100 * 10)
    found = tracks.mean_in_windows(bpm, 100.0)
    assert found[:2].tolist() == [60.0, 60.0] and found[2] == pytest.approx(60 + 30 * 2 / 8)
    # seconds 16 to 24 are half known, 18 to 26 less
    assert found[8] == 90.0 and np.isnan(found[9:]).all() and len(found) == 12
