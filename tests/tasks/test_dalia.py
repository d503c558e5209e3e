"""PPG-DaLiA: pickles of Python 2 and 3 read without executing them, truncation subject by subject, damage that a message must name."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_heart_rates import empatica, save_subject

from hwnas.errors import DataError
from hwnas.tasks.datasets import HEART_RATE_FORMATS, dalia, recognise, safe_pickle
from hwnas.tasks.datasets.recordings import Recordings, Wanted


def read(folder: Path) -> Recordings:
    return dalia.load(folder, Wanted(32.0))


def content(number: int, bpm: float = 90.0, seconds: float = 30.0, labels: int = 12) -> dict[str, Any]:
    return empatica(seconds, bpm, number, label=bpm + np.arange(labels) / 10, activity=np.zeros((4, 1)), rpeaks=np.arange(5))


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("inside", ["PPG_FieldStudy", "."])
def test_subjects_in_order_and_labels_in_place(tmp_path: Path, old: bool, inside: str) -> None:
    for number in (1, 10, 2):
        save_subject(tmp_path / inside, number, content(number, 80.0 + number), old=old)
    found = read(tmp_path)
    windows = found.windows
    assert recognise(tmp_path, HEART_RATE_FORMATS) == "ppg_dalia" and found.recorded_hz == (32.0, 64.0) and found.notes == ()
    assert windows.subject.tolist() == ["dalia-01"] * 12 + ["dalia-02"] * 12 + ["dalia-10"] * 12
    assert windows.y[12:24] == pytest.approx(82 + np.arange(12) / 10)
    t = 10 + np.arange(256) / 32
    assert np.corrcoef(windows.x[5, 0], np.sin(2 * np.pi * 81 / 60 * t) + 0.3 * np.sin(4 * np.pi * 81 / 60 * t))[0, 1] > 0.995
    assert np.corrcoef(windows.x[5, 3], np.sin(2 * np.pi * 2.8 * t))[0, 1] > 0.995


def test_every_protocol_holds_the_same(tmp_path: Path) -> None:
    value = content(1)
    value["signal"]["wrist"]["ACC"] = np.asfortranarray(value["signal"]["wrist"]["ACC"])
    found = []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        save_subject(tmp_path, 1, value).write_bytes(pickle.dumps(value, protocol=protocol))
        found.append(read(tmp_path).windows.hash)
    save_subject(tmp_path, 1, content(1), old=True)
    assert set(found) == {read(tmp_path).windows.hash}


def test_truncation_of_one_subject_moves_nobody_elses_labels(tmp_path: Path) -> None:
    place = tmp_path / "PPG_FieldStudy"
    save_subject(place, 5, content(5, 100.0))
    save_subject(place, 6, content(6, 110.0, seconds=20.0))  # short, its labels are not
    save_subject(place, 7, content(7, 120.0, labels=11))
    found = read(tmp_path)
    windows = found.windows
    assert [int((windows.subject == f"dalia-0{n}").sum()) for n in (5, 6, 7)] == [12, 7, 11]
    for number, bpm in ((5, 100.0), (6, 110.0), (7, 120.0)):
        mine = windows.y[windows.subject == f"dalia-0{number}"]
        assert mine == pytest.approx(bpm + np.arange(len(mine)) / 10)
    assert found.left_out == {"a heart rate for which there is no signal": 5, "no heart rate": 1}
    assert found.notes == (
        "dalia-06: 12 heart rates, a signal of 7 windows; what both have is used",
        "dalia-07: 11 heart rates, a signal of 12 windows; what both have is used",
    )


def without(*keys: str) -> dict[str, Any]:
    value = content(1)
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return value


def with_wrist(name: str, array: Any) -> dict[str, Any]:
    value = content(1)
    value["signal"]["wrist"][name] = array
    return value


DAMAGE = [
    (without("label"), "'label' is missing"),
    (without("signal", "wrist"), r"'signal/wrist' is missing \(found: chest\)"),
    (without("signal", "wrist", "BVP"), r"'signal/wrist/BVP' is missing \(found: ACC, EDA\)"),
    (with_wrist("ACC", np.zeros((960, 2))), r"'signal/wrist/ACC' has the shape \(960, 2\)"),
    (with_wrist("BVP", "text"), "expected numbers"),
    (with_wrist("ACC", np.zeros((320, 3))), "30 s of BVP and 10 s of ACC"),
    ({**content(1), "label": np.full(12, 2.0)}, "window 0 has the heart rate 2 BPM"),
    ([1, 2], "holds a list, expected a dict"),
]


@pytest.mark.parametrize(("value", "said"), DAMAGE)
def test_damage_names_the_file(tmp_path: Path, value: Any, said: str) -> None:
    path = save_subject(tmp_path, 1, value)
    with pytest.raises(DataError, match=said) as error:
        read(tmp_path)
    assert str(path) in str(error.value)


class Attack:
    def __reduce__(self) -> Any:
        return os.mkdir, ("attacked",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_subject(tmp_path, 1, {**content(1), "activity": Attack()})
    with pytest.raises(DataError, match=r"S1\.pkl: not a pickle of numbers: refers to .*mkdir"):
        read(tmp_path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("raw", [b"", b"S'abc", b"S'\\x'\n.", b"S'\xff'\n", b"S'abc'\n\xfe.", b"\x80\x04."])
def test_cut_short_or_no_pickle(tmp_path: Path, raw: bytes) -> None:
    save_subject(tmp_path, 1, {}).write_bytes(raw)
    with pytest.raises(DataError, match=r"S1\.pkl"):
        read(tmp_path)
    with pytest.raises(safe_pickle.UnsafePickle):
        safe_pickle.loads(raw)
