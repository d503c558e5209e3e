"""BAMI-1 and BAMI-2: labels from beats and from rates of ten seconds; damage that a message must name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_heart_rates import bami1_file, bami2_file

from hwnas.errors import DataError
from hwnas.tasks.datasets import HEART_RATE_FORMATS, bami, recognise
from hwnas.tasks.datasets.recordings import Recordings, Wanted


def read(folder: Path) -> Recordings:
    return bami.load(folder, Wanted(32.0))


def test_beats_become_rates_of_windows(tmp_path: Path) -> None:
    for number in (10, 2):
        bami1_file(tmp_path, number, 80.0 + number)
    found = read(tmp_path)
    windows = found.windows
    assert recognise(tmp_path, HEART_RATE_FORMATS) == "bami"
    assert windows.subject.tolist() == ["bami1-02"] * 7 + ["bami1-10"] * 7 and windows.x.shape == (14, 4, 256)
    time = np.arange(0.3, 20, 60 / 82.0)
    for i in range(7):
        inside = (time >= 2 * i) & (time < 2 * i + 8)
        assert windows.y[i] == pytest.approx((82.0 + 0.1 * np.arange(len(time)))[inside].mean(), abs=1e-3)
    # the offset of the accelerometer is gone, its motion is not
    assert np.corrcoef(windows.x[3, 1], np.sin(2 * np.pi * 0.9 * (6 + np.arange(256) / 32)))[0, 1] > 0.99


def test_rates_of_ten_seconds_are_centred(tmp_path: Path) -> None:
    # 20 s: six windows of 10 s, seven of 8 s; the middle of window i, 2i + 4, lies between 2i + 3 and 2i + 5
    bami2_file(tmp_path, 1, 100 + np.arange(6.0))
    found = read(tmp_path).windows
    assert found.y.tolist() == [100, 100.5, 101.5, 102.5, 103.5, 104.5, 105] and set(found.subject) == {"bami2-01"}
    with pytest.raises(DataError, match=r"BAMI2_1\.mat: 'bpm_ecg' holds 5 rates, a signal of 20 s has 6 windows of 10 s"):
        bami2_file(tmp_path, 1, 100 + np.arange(5.0))
        read(tmp_path)


def test_both_in_one_folder_are_different_people(tmp_path: Path) -> None:
    bami1_file(tmp_path, 1, 90.0)
    bami2_file(tmp_path, 1, np.full(6, 100.0))
    assert set(read(tmp_path).windows.subject) == {"bami1-01", "bami2-01"}


DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"sigAcc": np.zeros((3, 900), np.uint16)}, r"shapes \(3, 1000\) and \(3, 900\)"),
    ({"sigPPG": np.zeros((1, 1000), np.uint16), "sigAcc": np.zeros((1, 1000), np.uint16)}, r"expected \(3, samples\)"),
    ({"timeECG": None}, "'timeECG' is missing"),
    ({"timeECG": np.arange(5.0)[:, None]}, "'timeECG' of 5 and 'bpmECG' of"),
    ({"timeECG": np.arange(5.0)[:, None], "bpmECG": np.full((5, 1), 60.0)}, "beats up to 4.0 s, a signal of 20.0 s"),
    ({"timeECG": np.arange(5.0)[::-1][:, None], "bpmECG": np.full((5, 1), 60.0)}, "in seconds, growing"),
    ({"bpmECG": np.full((29, 1), 700.0)}, "700 BPM"),
    ({"sigPPG": np.full((3, 1000), 7, np.uint16)}, "no window can be used .*flat stretch"),
]


@pytest.mark.parametrize(("change", "said"), DAMAGE)
def test_damage_names_the_file(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = bami1_file(tmp_path, 1, 87.0, **change)
    with pytest.raises(DataError, match=said) as error:
        read(tmp_path)
    assert path.name in str(error.value) or "no window" in said


def test_other_files_are_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "Subject_x.mat").write_bytes(b"")
    (tmp_path / "notes.mat").write_bytes(b"")
    assert not bami.matches(tmp_path)
    with pytest.raises(DataError, match="expected the BAMI-1 or the BAMI-2 folder"):
        read(tmp_path)
