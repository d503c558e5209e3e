"""Task `heart_rate`: errors in closed form for both forms of output, what it refuses, and what recordings show without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_heart_rates import spc_folder
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import TASKS, bpm, datasets, pulse_motion, split_by_subject, tracking
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import spc2015
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.heart_rate import HEART_RATE


def made(y: list[float], subjects: str = "a", recordings: str | None = None) -> Windows:
    count = len(y)
    return Windows(
        x=np.zeros((count, 4, 256), np.float32),
        y=np.array(y, np.float32),
        subject=np.array(list(subjects * count)[:count]),
        rate_hz=32.0,
        source="synthetic",
        name="made",
        recording=None if recordings is None else np.array(list(recordings)),
    )


def largest_peak(windows: Windows) -> NDArray[np.float64]:
    """The rate (N,) in BPM at which the PPG's spectrum is largest: what anybody can do without a network."""
    spectrum = np.abs(np.fft.rfft(windows.x[:, 0], 2048, axis=1))
    hz = np.fft.rfftfreq(2048, 1 / windows.rate_hz)
    band = (hz >= 0.6) & (hz <= 3.7)
    return np.asarray(60 * hz[band][spectrum[:, band].argmax(axis=1)])


def test_it_says_what_it_is() -> None:
    task = TASKS["heart_rate"]
    assert (task.kind, task.outputs, len(task.labels), task.channels) == ("regression", ("bpm",), 180, pulse_motion.CHANNELS)
    assert (task.rate_hz, task.window_s, task.primary, task.needed, task.loss_allowed) == (32.0, 8.0, "mae_bpm", (), 0.1)


def test_errors_in_closed_form() -> None:
    windows = made([60.0, 100.0, 100.0, 180.0], "aabb")
    found = HEART_RATE.metrics(bpm.to_output(windows.y + np.array([3.0, -1.0, 2.0, 10.0]))[:, None], windows)
    assert found["mae_bpm"] == pytest.approx(4.0, abs=1e-4) and HEART_RATE.error(found) == found["mae_bpm"]
    assert found["bias_bpm"] == pytest.approx(3.5, abs=1e-4)
    assert found["rmse_bpm"] == pytest.approx(np.sqrt((9 + 1 + 4 + 100) / 4), abs=1e-4)
    assert found["within_5_bpm"] == 0.75 and found["mae_subjects_bpm"] == pytest.approx(4.0, abs=1e-4)
    # subjects weigh the same, however long they were recorded
    uneven = made([60.0, 60.0, 60.0, 60.0], "aaab")
    found = HEART_RATE.metrics(bpm.to_output(uneven.y + np.array([0.0, 0.0, 0.0, 8.0]))[:, None], uneven)
    assert found["mae_bpm"] == pytest.approx(2.0, abs=1e-4) and found["mae_subjects_bpm"] == pytest.approx(4.0, abs=1e-4)
    errors = HEART_RATE.subject_errors(bpm.to_output(uneven.y + np.array([3.0, 0.0, 0.0, 8.0]))[:, None], uneven)
    assert errors == pytest.approx({"a": 1.0, "b": 8.0}, abs=1e-4)


def test_a_teachers_classes_and_a_students_value_are_read_alike() -> None:
    windows = made([71.0, 93.0, 154.0])
    logits = np.full((3, 180), -50.0)
    logits[np.arange(3), [74 - 30, 93 - 30, 150 - 30]] = 50.0
    value = bpm.to_output(np.array([74.0, 93.0, 150.0]))[:, None]
    by_class, by_value = HEART_RATE.metrics(logits, windows), HEART_RATE.metrics(value, windows)
    assert by_class == pytest.approx(by_value, abs=1e-4) and by_class["mae_bpm"] == pytest.approx(7 / 3, abs=1e-4)


def test_clipping_stays_inside_a_recording_and_apart_from_the_raw_figure() -> None:
    estimates = np.array([60.0, 120.0, 120.0])
    together = HEART_RATE.metrics(bpm.to_output(estimates)[:, None], made([60.0, 60.0, 120.0], recordings="rrr"))
    apart = HEART_RATE.metrics(bpm.to_output(estimates)[:, None], made([60.0, 60.0, 120.0], recordings="rrs"))
    assert together["mae_bpm"] == apart["mae_bpm"] == pytest.approx(20.0, abs=1e-4)
    assert apart["mae_clipped_bpm"] == pytest.approx(2.0, abs=1e-4)  # 66 for 60
    assert together["mae_clipped_bpm"] == pytest.approx((6.0 + 120 - 1.1 * 63) / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (np.zeros((3, 7)), "7 classes of heart rate; 180 classes of 1 BPM can be joined to 2, 3"),
        (np.zeros(3), "shape"),
        (np.full((3, 1), np.nan), "NaN or infinity"),
        (np.zeros((2, 1)), "2 outputs for 3 windows"),
    ],
)
def test_outputs_that_cannot_be_are_refused(outputs: NDArray[np.float64], said: str) -> None:
    with pytest.raises(DataError, match=said):
        HEART_RATE.metrics(outputs, made([60.0, 70.0, 80.0]))
    with pytest.raises(DataError, match="one at least"):
        HEART_RATE.metrics(np.zeros((0, 1)), made([]))


def test_classes_and_bands() -> None:
    assert HEART_RATE.classes(np.array([20.0, 30.4, 71.6, 300.0], np.float32)).tolist() == [0, 0, 42, 179]
    assert HEART_RATE.strata(np.array([79.9, 80.0, 109.0, 110.0, 139.0, 141.0], np.float32)).tolist() == [0, 1, 1, 2, 2, 3]


def test_loading(tmp_path: Path) -> None:
    folder = spc_folder(tmp_path)
    windows = HEART_RATE.load(folder, window_s=None, seed=0)
    assert windows.source == "real" and windows.x.shape == (30, 4, 256)
    assert np.abs(largest_peak(windows) - windows.y).max() < 2
    assert HEART_RATE.load(folder, window_s=8.0, seed=3).hash == windows.hash
    for wrong, said in (({"window_s": 10.0}, "reads 8 s every 2 s"), ({"window_s": None, "subjects": 3}, "for the generator")):
        with pytest.raises(DataError, match=said):
            HEART_RATE.load(folder, seed=0, **wrong)
    with pytest.raises(DataError, match="asked for 100 Hz"):
        datasets.load(folder, datasets.HEART_RATE_FORMATS, Wanted(100.0))


def test_recordings_of_another_kind_are_refused() -> None:
    rhythm = replace(made([60.0]), y=np.zeros(1, np.int64))
    with pytest.raises(DataError, match="needs heart rates in BPM"):
        HEART_RATE.relabel(Recordings(rhythm, ("rest", "af"), (32.0,), 1))
    with pytest.raises(DataError, match="1 channels"):
        HEART_RATE.relabel(Recordings(replace(made([60.0]), x=np.zeros((1, 1, 256), np.float32)), (), (32.0,), 1))


def test_generated_windows_split_by_subject() -> None:
    split = split_by_subject(HEART_RATE.load(None, window_s=None, seed=0, subjects=10, windows=200), 0, HEART_RATE)
    assert [len(part.subjects) for part in (split.train, split.validation, split.test)] == [6, 2, 2]


@pytest.mark.parametrize(
    ("name", "windows", "subjects", "raw", "clipped"),
    [("bami1", 10_008, 24, (24.0, 30.0), (23.0, 29.0)), ("ieee_spc2015", 3_203, 20, (14.0, 19.0), (9.0, 14.0))],
)
def test_the_largest_peak_of_real_recordings(
    real_data: Callable[[str], Path], name: str, windows: int, subjects: int, raw: tuple[float, float], clipped: tuple[float, float]
) -> None:
    found = HEART_RATE.load(real_data(f"heart_rate/{name}"), window_s=None, seed=0)
    assert (len(found), len(found.subjects)) == (windows, subjects)
    estimates = largest_peak(found)
    assert raw[0] < np.abs(estimates - found.y).mean() < raw[1]
    assert clipped[0] < np.abs(tracking.clip_to_recent(estimates, found.recordings) - found.y).mean() < clipped[1]
    # half of the windows are easy: signals and labels belong together
    assert (np.abs(estimates - found.y) < 3).mean() > 0.5
    if name == "ieee_spc2015":
        parts = {part: int(spc2015.official(found, part).sum()) for part in ("train", "test", "extra")}
        assert parts == {"train": 1768, "test": 1328, "extra": 107}
        assert spc2015.test_subjects(found) == tuple(f"test-0{n}" for n in range(1, 9))
