"""WESAD: heart rates computed from the chest ECG on the grid of the windows; how it is told from PPG-DaLiA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_heart_rates import ecg, empatica, save_subject

from hwnas.errors import DataError
from hwnas.tasks.datasets import HEART_RATE_FORMATS, recognise, wesad
from hwnas.tasks.datasets.recordings import Recordings, Wanted


def read(folder: Path) -> Recordings:
    return wesad.load(folder, Wanted(32.0))


def content(number: int, bpm: float = 75.0, seconds: float = 40.0) -> dict[str, Any]:
    value = empatica(seconds, bpm, number, label=np.zeros(int(seconds * 700), np.int64))
    value["signal"]["chest"]["ECG"] = ecg(seconds, 700, np.arange(0.3, seconds, 60 / bpm))[:, None]
    return value


def test_heart_rates_from_the_chest(tmp_path: Path) -> None:
    for number, bpm in ((2, 66.0), (13, 97.0)):
        save_subject(tmp_path / "WESAD", number, content(number, bpm), old=number == 2)
    found = read(tmp_path)
    windows = found.windows
    assert recognise(tmp_path, HEART_RATE_FORMATS) == recognise(tmp_path / "WESAD", HEART_RATE_FORMATS) == "wesad"
    assert windows.x.shape == (34, 4, 256) and windows.subjects == ("wesad-02", "wesad-13") and found.files == 2
    for name, bpm in (("wesad-02", 66.0), ("wesad-13", 97.0)):
        assert windows.y[windows.subject == name] == pytest.approx(np.full(17, bpm), abs=0.3)


def test_windows_without_r_waves_are_left_out(tmp_path: Path) -> None:
    value = content(3)
    value["signal"]["chest"]["ECG"][700 * 18 : 700 * 26] = 0.0
    save_subject(tmp_path, 3, value)
    found = read(tmp_path)
    # those of which seconds 18 to 26 are more than a quarter
    assert 4 <= found.left_out["no heart rate"] <= 7 and len(found.windows) == 17 - found.left_out["no heart rate"]
    assert found.windows.y == pytest.approx(np.full(len(found.windows), 75.0), abs=0.5)


def test_dalia_and_damage_are_told(tmp_path: Path) -> None:
    path = save_subject(tmp_path, 2, {**content(2), "activity": np.zeros(3)})
    with pytest.raises(DataError, match=r"as PPG-DaLiA does; name its folder PPG_FieldStudy"):
        read(tmp_path)
    (path.parent / "S2_activity.csv").write_text("")
    assert recognise(tmp_path, HEART_RATE_FORMATS) == "ppg_dalia"
    (path.parent / "S2_activity.csv").unlink()
    short = content(2)
    short["signal"]["chest"]["ECG"] = short["signal"]["chest"]["ECG"][: 700 * 20]
    save_subject(tmp_path, 2, short)
    with pytest.raises(DataError, match=r"S2\.pkl: 40 s of the wrist and 20 s of the chest"):
        read(tmp_path)
    del short["signal"]["chest"]["ECG"]
    save_subject(tmp_path, 2, short)
    with pytest.raises(DataError, match=r"'signal/chest/ECG' is missing \(found: \)"):
        read(tmp_path)
