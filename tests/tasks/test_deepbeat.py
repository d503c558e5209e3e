"""DeepBeat's files: sizes, labels, subjects; object arrays read without executing them; hostile pickles; every kind of damage."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_recordings import deepbeat_content, fuzz

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.datasets import deepbeat, npz, safe_pickle
from hwnas.tasks.datasets.recordings import Recordings, Wanted


def read(folder: Path, window_s: float | None = None) -> Recordings:
    return deepbeat.load(folder, Wanted(100.0, window_s))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_segments_labels_and_subjects_of_all_files(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "train.npz", **deepbeat_content(["10", "10", "11"]))
    save(tmp_path / "test.npz", **deepbeat_content([11, 13.0], seed=50))
    found = read(tmp_path)
    windows = found.windows
    assert windows.x.shape == (5, 1, 2500) and windows.window_s == 25.0 and windows.y.tolist()[:3] == [0, 0, 1]
    # the same id is the same person, in whatever file and type
    assert windows.subject.tolist() == [f"deepbeat_{n}" for n in (10, 10, 11, 11, 13)]
    assert found.recorded_hz == (32.0,) and found.files == 2 and "validate.npz is not there" in found.notes
    truth = deepbeat_content(["10", "10", "11"])["signal"][1, :, 0]
    assert np.corrcoef(np.interp(np.arange(2400) / 100, np.arange(800) / 32, truth), windows.x[1, 0, :2400])[0, 1] > 0.99
    assert TASKS["rhythm-af"].load(tmp_path, window_s=10.0, seed=0).y.tolist()[:6] == [0, 0, 0, 0, 1, 1]
    with pytest.raises(DataError, match="use --task rhythm-af"):
        TASKS["rhythm"].load(tmp_path, window_s=None, seed=0)
    with pytest.raises(DataError, match="segments of 25 s that cannot be joined; asked for 30 s"):
        read(tmp_path, 30.0)


def test_overlapping_segments_of_a_subject_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepbeat, "SEGMENTS_PER_SUBJECT", 4)
    monkeypatch.setattr(npz, "CHUNK_BYTES", 800 * 8 * 3)
    content = deepbeat_content([10] * 12 + [11] * 3)
    np.savez(tmp_path / "validate.npz", **content)
    found = read(tmp_path)
    assert found.windows.subject.tolist() == ["deepbeat_10"] * 4 + ["deepbeat_11"] * 3
    assert found.left_out == {"segments that overlap others (at most 4 a subject)": 8}
    for i, taken in enumerate((0, 3, 6, 9, 12, 13, 14)):
        low, high = content["signal"][taken].min(), content["signal"][taken].max()
        scaled = 2 * (content["signal"][taken, :, 0] - low) / (high - low) - 1
        assert np.corrcoef(np.interp(np.arange(2400) / 100, np.arange(800) / 32, scaled), found.windows.x[i, 0, :2400])[0, 1] > 0.99


def test_bad_segments_are_left_out_and_counted(tmp_path: Path) -> None:
    content = deepbeat_content([10, 11, 12, 13])
    content["signal"][0, 5] = np.nan
    content["signal"][1, 100:170] = 0.5
    np.savez(tmp_path / "test.npz", **content)
    assert read(tmp_path).left_out == {"a gap (NaN)": 1, "a flat stretch": 1}
    assert read(tmp_path).windows.subjects == ("deepbeat_12", "deepbeat_13")


def changed(**change: Any) -> dict[str, Any]:
    return {k: v for k, v in {**deepbeat_content([10, 11, 12]), **change}.items() if v is not None}


CONTENT = {
    "no signal": (changed(signal=None), r"'signal' is missing \(found: rhythm, qa_label, parameters\)"),
    "short": (changed(signal=np.zeros((3, 799, 1))), r"'signal' has the shape \(3, 799, 1\), expected \(segments, 800, 1\)"),
    "empty": (changed(signal=np.zeros((0, 800, 1))), "shape"),
    "scalar": (changed(signal=np.zeros(())), "shape"),
    "objects": (changed(signal=np.zeros((3, 800, 1), object)), "'signal' is of type object"),
    "text": (changed(signal=np.zeros((3, 800, 1), "U2")), "'signal' is of type <U2"),
    "fortran": (changed(signal=np.asfortranarray(np.zeros((3, 800)))), "not stored row by row"),
    "fewer labels": (changed(rhythm=np.eye(2)), r"'rhythm' is of shape \(2, 2\)"),
    "no one-hot": (changed(rhythm=np.array([[1, 0], [1, 1], [0, 1]])), r"'rhythm' of segment 1 is \[1, 1\], expected a single 1"),
    "halves": (changed(rhythm=np.full((3, 2), 0.5)), "'rhythm' of segment 0"),
    "NaN label": (changed(rhythm=np.full((3, 2), np.nan)), "'rhythm' of segment 0"),
    "quality": (changed(qa_label=np.zeros((3, 3))), "'qa_label' of segment 0"),
    "no subjects": (changed(parameters=np.zeros((3, 2))), r"'parameters' has the shape \(3, 2\), expected \(3, 3\)"),
    "subject None": (changed(parameters=np.full((3, 3), None)), "segment 0: the subject is 'None'"),
    "subject blank": (changed(parameters=np.full((3, 3), " ", object)), "segment 0: the subject is ' '"),
    "structured": (changed(rhythm=np.zeros(3, [("a", "f8")])), "read are arrays of numbers, text or objects"),
    "executes": (changed(parameters=np.full((3, 3), os.system, object)), "refers to 'posix.system', which is not allowed"),
    "a date": (changed(parameters=np.full((3, 3), date(2020, 1, 1), object)), "refers to 'datetime.date'"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_bad_content_is_refused_naming_the_file(tmp_path: Path, case: str) -> None:
    content, said = CONTENT[case]
    np.savez(tmp_path / "test.npz", **content)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path)
    assert "test.npz" in str(caught.value)


def array_file(declared: str, values: bytes) -> bytes:
    head = declared.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + values


def archive(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def test_sizes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
    archive(path, a=array_file(head % "999999999999, 800", b"12345678"), b=array_file(head % "3,", b"12345678"), c=b"hello")
    with npz.Npz(path) as found:
        with pytest.raises(DataError, match=r"declares the shape \(999999999999, 800\), .* bytes; allowed are"):
            found.array("a")
        with pytest.raises(DataError, match=r"declares the shape \(999999999999, 800\)"):
            list(found.rows("a"))
        with pytest.raises(DataError, match=r"declares 24 bytes in the shape \(3,\) and holds 8"):
            found.array("b")
        with pytest.raises(DataError, match="'c' is no array"):
            found.array("c")


def test_a_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_ARRAY_BYTES", 2**20)
    monkeypatch.setattr(npz, "MAX_OBJECT_BYTES", 2**20)
    path = tmp_path / "test.npz"
    np.savez_compressed(path, a=np.zeros(2**22, np.uint8), b=np.array(["x" * 2**21], object))
    assert path.stat().st_size < 2**15
    with npz.Npz(path) as found:
        with pytest.raises(DataError, match="4,194,304 bytes; allowed are 1,048,576"):
            found.array("a")
        with pytest.raises(DataError, match="allowed are 1,048,576 of objects"):
            found.objects("b")
        assert sum(len(block) for block in found.rows("a")) == 2**22


class Calls:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
HOSTILE = {
    "system": pickle.dumps(Calls(os.system, ("touch hacked",))),
    "eval": pickle.dumps(Calls(eval, ("1",))),
    "getattr": pickle.dumps(Calls(getattr, ("", "join"))),
    "numpy's loader": pickle.dumps(Calls(np.load, ("x",))),
    "numpy's ufunc": pickle.dumps(np.add),
    "a class of ours": pickle.dumps(DataError("x")),
    "an instance": b"(iposix\nsystem\n.",
    "persistent": b"Pabc\n.",
    "extension": b"\x82\x01.",
    "next buffer": b"\x80\x05\x97.",
    "nested name": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.load\x93.",
    "state of a name": b"cnumpy\nndarray\n}b.",
    "state of a list": b"]}b.",
    "call of text": b"Vx\n)R.",
    "a huge array": ARRAY + b"(I1\n(I999999999999\ntcnumpy\ndtype\n(Vf8\ntRI00\nVx\ntb.",
    "a negative array": ARRAY + b"(I1\n(I-1\nI-1\ntcnumpy\ndtype\n(Vb1\ntRI00\nVx\ntb.",
    "a huge empty array": ARRAY + b"(I1\n(I0\nI9223372036854775807\nI99\ntcnumpy\ndtype\n(Vf8\ntRI00\nV\ntb.",
    "pointers": ARRAY + b"(I1\n(I1\ntcnumpy\ndtype\n(VO8\ntRI00\nVAAAAAAAA\ntb.",
    "a long memo": b"]r\xff\xff\xff\x7f0j\xff\xff\xff\x7eX",
    "a long text": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "fields": b"cnumpy\ndtype\n(Vf8\ntR(I3\nV|\nN(Va\nt}I8\nI1\nI0\ntb.",
    "unhashable": b"}]Ns.",
    "no end": b"]",
    "nothing": b"",
    "empty stack": b".",
    "below the mark": b"](a.",
    "itself unfinished": b"cnumpy.core.multiarray\n_reconstruct\n)R.",
    "many digits": b"I" + b"9" * 5000 + b"\n.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(safe_pickle.UnsafePickle):
        safe_pickle.loads(HOSTILE[case])
    assert not list(tmp_path.iterdir())


def test_copies_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 10_000)
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 500)
    call = b"c_codecs\nencode\n(V" + b"x" * 4000 + b"\nVlatin1\ntR"
    assert len(safe_pickle.loads(call + b".")) == 4000
    with pytest.raises(safe_pickle.UnsafePickle, match="more than"):
        safe_pickle.loads(call * 4 + b".")
    with pytest.raises(safe_pickle.UnsafePickle, match="more than 500 values"):
        safe_pickle.loads(b"N" * 600 + b".")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers()),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
def test_plain_data_is_what_pickle_reads(value: Any, protocol: int) -> None:
    assert safe_pickle.loads(pickle.dumps(value, protocol)) == value


@given(
    st.sampled_from(["f8", ">f4", "<i2", "u1", "?", "c16", "U3", "S2", "O"]),
    st.lists(st.integers(0, 3), min_size=0, max_size=3),
    st.booleans(),
    st.integers(0, 5),
)
def test_arrays_are_what_pickle_reads(kind: str, shape: list[int], fortran: bool, protocol: int) -> None:
    values = np.random.default_rng(0).integers(0, 99, shape).astype(kind)
    array = np.asarray(values, order="F" if fortran else "C")
    found = safe_pickle.loads(pickle.dumps({"a": array, "b": [array], "c": array.ravel()[:1]}, protocol))
    assert found["a"].dtype == array.dtype and np.array_equal(found["a"], array) and np.array_equal(found["b"][0], array)
    if array.size and kind != "O":
        scalar = array.ravel()[0]
        assert safe_pickle.loads(pickle.dumps(scalar, protocol)) == scalar


@pytest.mark.parametrize("protocol", range(6))
def test_damaged_pickles_raise_nothing_else(protocol: int) -> None:
    whole = pickle.dumps({"a": np.arange(5.0), "b": np.array(["x", 3, None], object), "c": [1, 2.5, b"\xff"], "d": np.float32(2)}, protocol)
    refused = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        bad = bytearray(whole)
        bad[rng.integers(0, len(bad))] = rng.integers(0, 256)
        try:
            safe_pickle.loads(bytes(bad if seed % 2 else bad[: rng.integers(0, len(bad))]))
        except safe_pickle.UnsafePickle:
            refused += 1
    assert refused > 250


@given(st.sampled_from(["<f8", ">f4", "<i2", "u1", "?", "<U3", "S2"]), st.lists(st.integers(0, 3), max_size=3), st.booleans())
def test_npz_arrays_are_what_numpy_reads(kind: str, shape: list[int], fortran: bool) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 99, shape).astype(kind), order="F" if fortran else "C")
    content = io.BytesIO()
    np.lib.format.write_array(content, array)
    found = npz.HEADER.fullmatch(content.getvalue()[10:128].decode())
    assert found and np.dtype(found["type"]) == array.dtype


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez_compressed(path, **deepbeat_content([10, 11]))
    whole = path.read_bytes()
    for cut in [*range(0, 300, 23), *range(300, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"test\.npz"):
            read(tmp_path)


def made(folder: Path) -> tuple[str, ...]:
    np.savez(folder / "train.npz", **deepbeat_content([10, 11]))
    np.savez_compressed(folder / "test.npz", **deepbeat_content(["12", "13"]))
    return "train.npz", "test.npz"


def test_damage_raises_nothing_but_data_error(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "deepbeat", 150, *made(tmp_path)) > 120


@pytest.mark.slow
def test_damage_for_long(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "deepbeat", 6000, *made(tmp_path)) > 4800
