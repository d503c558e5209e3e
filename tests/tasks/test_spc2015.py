"""IEEE SPC 2015: rows, subjects and the person who is in two parts; damage that a message must name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_heart_rates import spc_folder, spc_recording
from scipy.io import loadmat, savemat

from hwnas.errors import DataError
from hwnas.tasks.datasets import HEART_RATE_FORMATS, recognise, spc2015
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.heart_rate import HEART_RATE
from hwnas.tasks.splits import held_out


def read(folder: Path) -> Recordings:
    return spc2015.load(folder, Wanted(32.0))


def test_parts_subjects_and_recordings(tmp_path: Path) -> None:
    found = read(spc_folder(tmp_path))
    windows = found.windows
    assert recognise(tmp_path, HEART_RATE_FORMATS) == "ieee_spc2015" and found.files == 6 and found.recorded_hz == (125.0,)
    each = {name: set(windows.subject[windows.recordings == name]) for name in dict.fromkeys(windows.recordings.tolist())}
    assert each == {
        "train-01-TYPE01": {"train-01"},
        "train-02-TYPE02": {"train-02"},
        "test-02-T01": {"test-02"},
        "test-02-T02": {"test-02"},
        "test-04-T02": {"test-04"},
        "extra-04-T01": {"test-04"},
    }
    assert windows.y[windows.recordings == "test-02-T02"].tolist() == [100.0] * 5
    assert spc2015.official(windows, "test").sum() == 15 and spc2015.official(windows, "extra").sum() == 5


def test_who_trains_on_the_training_part_never_sees_a_test_subject(tmp_path: Path) -> None:
    spc_recording(spc_folder(tmp_path), "Training_data/DATA_03_TYPE02.mat", "Training_data/DATA_03_TYPE02_BPMtrace.mat", 95.0)
    windows = read(tmp_path).windows
    assert spc2015.test_subjects(windows) == ("test-02", "test-04")
    split = held_out(windows, spc2015.test_subjects(windows), 0, HEART_RATE)
    assert set(split.train.subjects) | set(split.validation.subjects) == {"train-01", "train-02", "train-03"}
    # the extra recording's person is tested, so its recording trains nobody
    assert "extra-04-T01" in split.test.recordings


def test_first_ppg_channel_is_read_with_and_without_an_ecg_row(tmp_path: Path) -> None:
    windows = read(spc_folder(tmp_path)).windows
    hz = np.fft.rfftfreq(256, 1 / 32)
    for rate, x in zip(windows.y, windows.x, strict=True):
        # the second channel beats at 40 BPM
        assert abs(60 * hz[np.abs(np.fft.rfft(x[0])).argmax()] - rate) < 60 / 8
        # the axes of acceleration move at 0.9, 1.9 and 2.8 Hz
        assert [round(float(hz[np.abs(np.fft.rfft(axis)).argmax()]), 1) for axis in x[1:]] == pytest.approx([0.9, 1.9, 2.8], abs=0.13)


def rewrite(path: Path, **change: Any) -> None:
    content = {name: value for name, value in loadmat(path).items() if not name.startswith("_")}
    savemat(path, {k: v for k, v in {**content, **change}.items() if v is not None})


DAMAGE = [
    (
        "Training_data/DATA_01_TYPE01.mat",
        {"sig": np.ones((5, 2037))},
        r"DATA_01_TYPE01\.mat: 'sig' has the shape \(5, 2037\), expected \(6",
    ),
    ("TestData/TEST_S02_T01.mat", {"sig": np.ones((6, 2037))}, r"TEST_S02_T01\.mat: 'sig' has the shape \(6, 2037\), expected \(5"),
    ("Training_data/DATA_01_TYPE01.mat", {"sig": None, "other": np.ones((1, 1))}, "'sig' is missing"),
    ("Training_data/DATA_01_TYPE01.mat", {"sig": np.ones((6, 1000))}, "5 heart rates for a signal of 1 windows"),
    ("TrueBPM/True_S02_T02.mat", {"BPM0": np.full((6, 1), 80.0)}, r"TEST_S02_T02\.mat: 6 heart rates for a signal of 5 windows"),
    ("TrueBPM/True_S02_T02.mat", {"BPM0": np.full((5, 2), 80.0)}, r"True_S02_T02\.mat: 'BPM0' has the shape \(5, 2\)"),
    ("TrueBPM/True_S02_T02.mat", {"BPM0": np.array([[80.0], [80], [0], [80], [80]])}, "window 2 has the heart rate 0 BPM"),
]


@pytest.mark.parametrize(("name", "change", "said"), DAMAGE)
def test_damage_names_the_file(tmp_path: Path, name: str, change: dict[str, Any], said: str) -> None:
    rewrite(spc_folder(tmp_path) / name, **change)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the folder of IEEE SPC 2015"):
        read(tmp_path)
    spc_folder(tmp_path)
    (tmp_path / "TrueBPM" / "True_S02_T01.mat").unlink()
    with pytest.raises(DataError, match=r"True_S02_T01\.mat: cannot be read"):
        read(tmp_path)
    for path in [*(tmp_path / "TestData").iterdir(), *(tmp_path / "Extra_TrainingData").iterdir()]:
        path.unlink()
    assert {"TestData is not there", "Extra_TrainingData is not there"} < set(read(tmp_path).notes)
