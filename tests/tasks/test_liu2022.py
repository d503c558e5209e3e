"""The Liu 2022 loader: files of the same form, every kind of damage, and the real folder where it is present."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.datasets import RHYTHM_FORMATS, liu2022, load, mat5
from hwnas.tasks.datasets.recordings import Wanted


def good(segments: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(segments)
    return {"ppgseg": rng.random((segments, 1000)), "labels": np.arange(segments, dtype=np.uint8)[:, None] % 6}


def save(folder: Path, content: dict[str, Any], name: str = "MPA_1.mat", compress: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    savemat(folder / name, content, do_compression=compress)
    return folder / name


@pytest.mark.parametrize("compress", [True, False])
def test_round_trip(tmp_path: Path, compress: bool) -> None:
    one, two = good(6), good(4)
    save(tmp_path, two, "MPA_2.mat", compress)
    save(tmp_path, one, "MPA_1.mat", compress)
    found = liu2022.load(tmp_path)
    assert found.x.shape == (10, 1, 1000) and found.x.dtype == np.float32
    assert found.y.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert found.subject.tolist() == ["MPA_1"] * 6 + ["MPA_2"] * 4
    raw = one["ppgseg"][3]
    assert np.allclose(found.x[3, 0], 2 * (raw - raw.min()) / (raw.max() - raw.min()) - 1, atol=1e-6)
    assert (found.rate_hz, found.window_s, found.source) == (100.0, 10.0, "real")


def test_tasks_read_the_folder_and_join_classes(tmp_path: Path) -> None:
    save(tmp_path, good(6))
    assert TASKS["rhythm"].load(tmp_path, window_s=None, seed=0).y.tolist() == [0, 1, 2, 3, 4, 5]
    assert TASKS["rhythm-af"].load(tmp_path, window_s=10.0, seed=0).y.tolist() == [0, 0, 0, 0, 0, 1]
    with pytest.raises(DataError, match="windows of 10 s that cannot be joined; asked for 30 s"):
        TASKS["rhythm"].load(tmp_path, window_s=30.0, seed=0)
    with pytest.raises(DataError, match="for the generator"):
        TASKS["rhythm"].load(tmp_path, window_s=None, seed=0, subjects=3)


def broken(**change: Any) -> dict[str, Any]:
    return {k: v for k, v in {**good(), **change}.items() if v is not None}


def with_value(row: int, value: float) -> Any:
    x = good()["ppgseg"]
    x[row, 500] = value
    return x


CONTENT = {
    "missing segments": (broken(ppgseg=None), r"'ppgseg' is missing \(found: labels\)"),
    "missing labels": (broken(labels=None), "'labels' is missing"),
    "short": (broken(ppgseg=np.ones((6, 999))), r"shape \(6, 999\), expected \(segments, 1000\)"),
    "transposed": (broken(ppgseg=good()["ppgseg"].T), r"shape \(1000, 6\)"),
    "empty": (broken(ppgseg=np.ones((0, 1000)), labels=np.ones((0, 1))), "shape"),
    "cube": (broken(ppgseg=np.ones((6, 1000, 2))), "shape"),
    "fewer labels": (broken(labels=np.zeros((5, 1), np.uint8)), r"shape \(5, 1\), expected \(6, 1\)"),
    "NaN": (broken(ppgseg=with_value(4, np.nan)), "segment 4 holds NaN or infinity"),
    "infinity": (broken(ppgseg=with_value(2, np.inf)), "segment 2 holds NaN or infinity"),
    "constant": (broken(ppgseg=np.r_[good()["ppgseg"][:3], np.full((3, 1000), 0.5)]), "segment 3 is constant"),
    "label 6": (broken(labels=np.array([[0, 1, 6, 2, 3, 4]]).T), "segment 2 has the label 6, allowed"),
    "label -1": (broken(labels=np.array([[0, 1, 0, 2, -1, 4]]).T), "segment 4 has the label -1"),
    "label 1.5": (broken(labels=np.array([[0, 1.5, 0, 2, 1, 4]]).T), "segment 1 has the label 1.5"),
    "label NaN": (broken(labels=np.array([[0, np.nan, 0, 2, 1, 4]]).T), "segment 1 has the label nan"),
    "complex": (broken(ppgseg=good()["ppgseg"] * 1j), "class 'complex', expected real numbers"),
    "text": (broken(ppgseg="hello"), "class 'char'"),
    "cell": (broken(ppgseg=np.array([[1, "a"]], dtype=object)), "class 'cell'"),
    "struct": (broken(ppgseg={"a": 1.0}), "class 'struct'"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_bad_content_is_refused_naming_the_file_and_the_segment(tmp_path: Path, case: str) -> None:
    content, said = CONTENT[case]
    path = save(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        liu2022.load(tmp_path)
    assert str(path) in str(caught.value)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nowhere", RHYTHM_FORMATS, Wanted(100.0))
    with pytest.raises(DataError, match="it is empty"):
        load(tmp_path, RHYTHM_FORMATS, Wanted(100.0))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"it holds notes\.txt"):
        load(tmp_path, RHYTHM_FORMATS, Wanted(100.0))
    with pytest.raises(DataError, match="a file; give --data the folder"):
        load(tmp_path / "notes.txt", RHYTHM_FORMATS, Wanted(100.0))
    (tmp_path / "MPA_0.mat").mkdir()
    with pytest.raises(DataError, match="no plain file"):
        load(tmp_path, RHYTHM_FORMATS, Wanted(100.0))


def test_other_files_under_the_name(tmp_path: Path) -> None:
    path = tmp_path / "MPA_1.mat"
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(500), b"MATLAB 5.0 MAT-file".ljust(126) + b"IM"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"MPA_1\.mat"):
            liu2022.load(tmp_path)


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, compress: bool) -> None:
    path = save(tmp_path, good(2), compress=compress)
    whole = path.read_bytes()
    for cut in [*range(0, 400, 7), *range(400, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"MPA_1\.mat"):
            liu2022.load(tmp_path)


def test_a_small_file_that_unpacks_to_a_lot_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat5, "MAX_BYTES", 2**20)
    packed = zlib.compress(struct.pack("<II", 14, 2**24) + bytes(2**24))
    assert len(packed) < 2**15
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "MPA_1.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        liu2022.load(tmp_path)
    (tmp_path / "MPA_1.mat").write_bytes(bytes(2**20 + 1))
    with pytest.raises(DataError, match="larger than 1,024 KiB"):
        liu2022.load(tmp_path)


@given(st.integers(0, 9999), st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]), st.booleans())
def test_arrays_are_what_scipy_reads(seed: int, kind: str, compress: bool) -> None:
    rng = np.random.default_rng(seed)
    one = (rng.random(rng.integers(0, 5, rng.integers(2, 4))) * 200 - 50).astype(kind)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.mat"
        savemat(path, {"b": "text", "a": one, "longer_name": one.T.copy(), "c": {"d": 1}}, do_compression=compress)
        found, oracle = mat5.read_numeric(path, ("a", "longer_name")), loadmat(path)
    for name in ("a", "longer_name"):
        assert found[name].dtype == oracle[name].dtype and np.array_equal(found[name], oracle[name])


FUZZ = """
import sys, numpy as np
from pathlib import Path
from tempfile import TemporaryDirectory
from hwnas.errors import DataError
from hwnas.tasks.datasets import liu2022
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "MPA_1.mat"
whole = np.frombuffer(path.read_bytes(), np.uint8)
refused = 0
for seed in range(rounds):
    rng = np.random.default_rng(seed)
    bad = whole.copy()
    near = 600 if seed % 2 else len(bad)
    bad[rng.integers(0, near, rng.integers(1, 6))] = rng.integers(0, 256)
    path.write_bytes(bad.tobytes())
    try:
        liu2022.load(folder)
    except DataError:
        refused += 1
print(refused)
"""


def fuzz(folder: Path, rounds: int, compress: bool) -> int:
    """Number of refused files; in a child under a memory limit, so that a crash or a flood fails the test."""
    save(folder, good(3), compress=compress)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))

    command = [sys.executable, "-c", FUZZ, str(folder), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("compress", [True, False])
def test_damaged_bytes_never_raise_anything_but_data_error(tmp_path: Path, compress: bool) -> None:
    # an uncompressed file is samples and free text but for some 200 bytes; other samples are still a good file
    assert fuzz(tmp_path, 150, compress) > 150 * (0.8 if compress else 0.08)


@pytest.mark.fuzz
@pytest.mark.parametrize("compress", [True, False])
def test_damaged_bytes_for_long(tmp_path: Path, compress: bool) -> None:
    assert fuzz(tmp_path, 5000, compress) > 5000 * (0.8 if compress else 0.08)


def test_the_published_folder(liu_dir: Path) -> None:
    found = TASKS["rhythm"].load(liu_dir, window_s=None, seed=0)
    assert np.bincount(found.y).tolist() == [3248, 1120, 969, 1074, 1125, 3084]
    assert len(found.subjects) == 28 and found.x.shape == (10620, 1, 1000)
    assert (found.x.min(axis=2) == -1).all() and (found.x.max(axis=2) == 1).all()
