"""People's own recordings of heart rate: CSV and NPZ with a column of BPM, and what a dataset.yaml may not mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_heart_rates import wrist

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.datasets import HEART_RATE_FORMATS, plain, recognise
from hwnas.tasks.datasets.recordings import Recordings, Wanted

YAML = """
channels: [ppg, x, y, z]
rate_hz: 50
files:
  - {file: one.csv, subject: anna, heart_rate_column: bpm}
  - {file: two.npz, subject: bert, heart_rate_column: bpm}
"""


def folder(place: Path, text: str = YAML) -> Path:
    (place / "dataset.yaml").write_text(text)
    for name, rate in (("one.csv", 84.0), ("two.npz", 66.0)):
        ppg, acc = wrist(20.0, 50.0, rate)
        bpm = np.full(1000, rate)
        bpm[400:600] = np.nan
        rows = np.stack([ppg, *acc, bpm])
        if name.endswith(".csv"):
            lines = [",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in rows.T]
            (place / name).write_text("ppg,x,y,z,bpm\n" + "\n".join(lines))
        else:
            np.savez(place / name, **dict(zip(("ppg", "x", "y", "z", "bpm"), rows, strict=True)))
    return place


def read(place: Path) -> Recordings:
    return plain.load_heart_rates(place, Wanted(32.0))


def test_columns_of_heart_rates(tmp_path: Path) -> None:
    found = read(folder(tmp_path))
    windows = found.windows
    assert recognise(tmp_path, HEART_RATE_FORMATS) == "plain"
    # windows begin at 0, 2 ... 12 s; the rate is unknown from 8 to 12 s, at most half of a window
    assert windows.y.tolist() == [84.0] * 7 + [66.0] * 7 and windows.subjects == ("anna", "bert")
    assert (
        set(windows.recordings) == {"one.csv", "two.npz"} and windows.hash == TASKS["heart_rate"].load(tmp_path, window_s=None, seed=0).hash
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[ppg, x, y, z]", "[ppg]", "1 channels; heart rates need four"),
        ("heart_rate_column: bpm}", "label: af}", "needs subject and heart_rate_column"),
        ("subject: bert", "subject_column: who", "needs subject and heart_rate_column"),
        ("heart_rate_column: bpm}", "heart_rate_column: bpm, label: af}", "give either label or label_column"),
        ("heart_rate_column: bpm}", "heart_rate_column: pulse}", "'pulse' is missing"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(folder(tmp_path, YAML.replace(old, new)))


def test_rhythm_says_where_heart_rates_belong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="use --task heart_rate"):
        TASKS["rhythm"].load(folder(tmp_path), window_s=None, seed=0)
