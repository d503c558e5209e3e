"""People's own folders: what dataset.yaml may say, CSV and NPZ files, and every kind of mistake and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_recordings import fuzz, pulse
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.datasets import RHYTHM_FORMATS, plain, recognise
from hwnas.tasks.datasets.recordings import Recordings, Wanted

RATE = 64


def read(folder: Path, window_s: float | None = None) -> Recordings:
    return plain.load(folder, Wanted(100.0, window_s))


def csv(folder: Path, name: str, signal: NDArray[np.float64], labels: list[str] | None = None) -> None:
    rows = [f"{'' if np.isnan(v) else f'{v:.6f}'},x" + (f",{labels[i]}" if labels else "") for i, v in enumerate(signal)]
    (folder / name).write_text("\n".join(["ppg,note" + (",rhythm" if labels else ""), *rows, ""]))


def about(folder: Path, *listed: dict[str, Any], **more: Any) -> Path:
    content = {"channels": ["ppg"], "rate_hz": RATE, "files": list(listed), **more}
    (folder / "dataset.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return folder


def entry(name: str = "a.csv", **change: Any) -> dict[str, Any]:
    content = {"file": name, "subject": "anna", "label": "af", **change}
    return {k: v for k, v in content.items() if v is not None}


def test_csv_files_with_one_label_and_with_a_column(tmp_path: Path) -> None:
    csv(tmp_path, "a.csv", pulse(25, RATE))
    words = ["N"] * (15 * RATE) + ["A"] * (15 * RATE) + ["?"] * (10 * RATE) + ["A"] * (10 * RATE)
    csv(tmp_path, "b.csv", pulse(50, RATE, 1), words)
    about(
        tmp_path,
        entry("a.csv", label="A", subject=7),
        entry("b.csv", label=None, label_column="rhythm", subject="bert"),
        labels={"N": "sinus", "A": "af", "?": None},
        name="my study",
    )
    found = read(tmp_path)
    # b.csv: seconds 10 to 20 hold both labels, 30 to 40 are declined
    assert found.windows.y.tolist() == [5, 5, 0, 5, 5]
    assert found.windows.subject.tolist() == ["7", "7", "bert", "bert", "bert"]
    assert found.left_out == {"more than one label": 1, "a label that dataset.yaml leaves out": 1}
    assert found.windows.x.shape == (5, 1, 1000) and found.recorded_hz == (64.0,) and found.windows.name.startswith("my study")
    truth = pulse(50, RATE, 1)
    even = np.interp(np.arange(4000, 5000) / 100, np.arange(len(truth)) / RATE, truth)
    assert np.corrcoef(even, found.windows.x[4, 0])[0, 1] > 0.995
    assert TASKS["rhythm"].load(tmp_path, window_s=None, seed=0).y.tolist() == [5, 5, 0, 5, 5]
    assert TASKS["rhythm-af"].load(tmp_path, window_s=20.0, seed=0).y.tolist() == [1]


def test_rest_makes_a_folder_binary(tmp_path: Path) -> None:
    csv(tmp_path, "a.csv", pulse(20, RATE))
    csv(tmp_path, "b.csv", pulse(10, RATE))
    csv(tmp_path, "c.csv", pulse(10, RATE))
    about(tmp_path, entry("a.csv"), entry("b.csv", label="rest"), entry("c.csv", label="sinus"))
    assert TASKS["rhythm-af"].load(tmp_path, window_s=None, seed=0).y.tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match="use --task rhythm-af"):
        TASKS["rhythm"].load(tmp_path, window_s=None, seed=0)


def test_npz_segments_with_labels_and_subjects(tmp_path: Path) -> None:
    segments = np.stack([pulse(12, RATE, i) for i in range(4)])
    who = np.array(["p", 3, "p", 4.0], dtype=object)
    np.savez(tmp_path / "all.npz", ppg=segments, who=who, rhythm=np.array([0.0, 5.0, 5.0, 0.0]))
    np.savez(tmp_path / "one.npz", ppg=pulse(20, RATE).astype(np.float32), rhythm=np.repeat([0, 5], 10 * RATE))
    about(
        tmp_path,
        entry("all.npz", subject=None, label=None, subject_column="who", label_column="rhythm"),
        entry("one.npz", label=None, label_column="rhythm"),
        labels={0: "sinus", 5: "af"},
    )
    found = read(tmp_path)
    assert found.windows.y.tolist() == [0, 5, 5, 0, 0, 5]
    assert found.windows.subject.tolist() == ["p", "3", "p", "4", "anna", "anna"]


def test_the_wanted_rate_and_length(tmp_path: Path) -> None:
    csv(tmp_path, "a.csv", pulse(60, RATE))
    about(tmp_path, entry(), window_s=5)
    assert read(tmp_path).windows.x.shape == (12, 1, 500) and read(tmp_path, 30.0).windows.x.shape == (2, 1, 3000)


def test_an_empty_cell_is_a_gap(tmp_path: Path) -> None:
    signal = pulse(30, RATE)
    signal[700] = np.nan
    csv(tmp_path, "a.csv", signal)
    found = read(about(tmp_path, entry()))
    assert len(found.windows) == 2 and found.left_out == {"a gap (NaN)": 1}


def test_several_channels_are_refused_by_the_task(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ppg=pulse(20, RATE), red=pulse(20, RATE, 1))
    about(tmp_path, entry("a.npz"), channels=["ppg", "red"])
    assert read(tmp_path).windows.x.shape == (2, 2, 1000)
    with pytest.raises(DataError, match="2 channels; task rhythm reads one"):
        TASKS["rhythm"].load(tmp_path, window_s=None, seed=0)


def test_a_dataset_yaml_is_preferred(tmp_path: Path) -> None:
    csv(tmp_path, "a.csv", pulse(20, RATE))
    (tmp_path / "MPA_1.mat").write_bytes(b"")
    assert recognise(about(tmp_path, entry()), RHYTHM_FORMATS) == "plain"


SAID = {
    "unknown key": ({"chanels": ["ppg"]}, "unknown key 'chanels'.* Did you mean 'channels'"),
    "unknown key of a file": ({"files": [entry(labell="af")]}, r"at 'files\.0\.labell'.*Did you mean 'label'"),
    "no rate": ({"rate_hz": None}, "key 'rate_hz' is missing"),
    "slow": ({"rate_hz": 1}, "at 'rate_hz'"),
    "NaN rate": ({"rate_hz": float("nan")}, "at 'rate_hz'"),
    "rate as text": ({"rate_hz": "64"}, "at 'rate_hz'"),
    "no file": ({"files": []}, "at 'files'"),
    "two labels": ({"files": [entry(label_column="rhythm")]}, "either label or label_column"),
    "no label": ({"files": [entry(label=None)]}, "either label or label_column"),
    "no subject": ({"files": [entry(subject=None)]}, "either subject or subject_column"),
    "another folder": ({"files": [entry("../a.csv")]}, "a .csv or .npz file in this folder"),
    "absolute": ({"files": [entry("/etc/passwd")]}, "a .csv or .npz file in this folder"),
    "another type": ({"files": [entry("a.mat")]}, "a .csv or .npz file in this folder"),
    "NUL": ({"files": [entry("a\0.csv")]}, "cannot be read"),
    "missing file": ({"files": [entry("b.csv")]}, r"b\.csv: cannot be read: No such file"),
    "file twice": ({"files": [entry(), entry()]}, r"'a\.csv' is listed twice"),
    "unknown label": ({"labels": {"x": "afib"}}, "unknown label 'afib'.*Did you mean 'af'"),
    "label not listed": ({"labels": {"x": "af"}}, r"a\.csv: unknown label 'af'; choose one of: x\..*dataset\.yaml lists them"),
    "channel": ({"channels": ["green"]}, r"a\.csv: column 'green' is missing \(found: ppg, note\)"),
    "text channel": ({"channels": ["note"]}, "line 2: 'note' is 'x', expected a number"),
    "label column": ({"files": [entry(label=None, label_column="y")]}, "column 'y' is missing"),
    "subject column": ({"files": [entry(subject=None, subject_column="note")]}, "give subject, not subject_column"),
    "long windows": ({"window_s": 30}, r"no window can be used \(1: shorter than a window\)"),
}


@pytest.mark.parametrize("case", SAID)
def test_mistakes_in_dataset_yaml(tmp_path: Path, case: str) -> None:
    change, said = SAID[case]
    csv(tmp_path, "a.csv", pulse(12, RATE))
    about(tmp_path, **{"files": [entry()], **change})
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


YAMLS = {
    "nothing": ("", "expected a mapping"),
    "a list": ("[1]", "expected a mapping"),
    "broken": ("a: [", "not valid YAML"),
    "bytes": ("\x00", "not valid YAML"),
    "deep": ("[" * 100_000, "nested deeper than 20 levels"),
    "aliases": ("a: &a [1]\nb: *a\n", "holds an alias"),
    "object": ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
    "no date": ("a: 2001-99-99", "not valid YAML"),
    "many digits": ("rate_hz: " + "9" * 5000, "dataset.yaml"),
    "large": ("#" * (2**20 + 1), "larger than 1,024 KiB"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_other_files_under_the_name(tmp_path: Path, case: str) -> None:
    content, said = YAMLS[case]
    (tmp_path / "dataset.yaml").write_text(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


ARRAYS = {
    "shapes": ({"ppg": np.ones((2, 3, 4))}, r"channels of the shapes \[\(2, 3, 4\)\]"),
    "text": ({"ppg": np.array(["a"])}, "array 'ppg' is of type <U1, expected numbers"),
    "objects": ({"ppg": np.array([{}], object)}, "array 'ppg' holds objects"),
    "fewer labels": ({"ppg": pulse(20, RATE), "y": np.ones(3)}, r"'y' has the shape \(3,\), expected \(1280,\)"),
    "fractions": ({"ppg": np.stack([pulse(20, RATE)]), "y": np.array([0.5])}, "array 'y' holds '0.5' at 0"),
    "NaN": ({"ppg": np.stack([pulse(20, RATE)]), "y": np.array([np.nan])}, "array 'y' holds 'nan' at 0"),
    "unknown": ({"ppg": np.stack([pulse(20, RATE)]), "y": np.array([3])}, "unknown label '3'"),
    "none": ({"ppg": np.ones((0, 640)), "y": np.ones(0)}, r"no window can be used \(it holds none\)"),
    "missing": ({"ppg": pulse(20, RATE)}, r"array 'y' is missing \(found: ppg\)"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_do_not_fit(tmp_path: Path, case: str) -> None:
    arrays, said = ARRAYS[case]
    np.savez(tmp_path / "a.npz", **{"y": np.zeros(1), **arrays} if case in ("shapes", "text", "objects") else arrays)
    about(tmp_path, entry("a.npz", label=None, label_column="y"))
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def made(folder: Path) -> tuple[str, ...]:
    csv(folder, "a.csv", pulse(12, RATE), ["sinus"] * 12 * RATE)
    np.savez(folder / "b.npz", ppg=np.stack([pulse(10, RATE)] * 2), y=np.array(["af", "vt"]), who=np.array([1, "b"], object))
    about(
        folder,
        entry("a.csv", label=None, label_column="rhythm"),
        entry("b.npz", label=None, label_column="y", subject=None, subject_column="who"),
    )
    return "a.csv", "b.npz", "dataset.yaml"


def test_damage_raises_nothing_but_data_error(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "plain", 150, *made(tmp_path)) > 75


@pytest.mark.slow
def test_damage_for_long(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "plain", 6000, *made(tmp_path)) > 3000
