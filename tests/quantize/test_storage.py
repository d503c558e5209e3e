"""Int8 students on disk: exact round trips, and a sentence for every kind of damage."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_networks import random_modalities
from random_students import random_graph, random_integers
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from hwnas.errors import QuantizationError
from hwnas.quantize import reference, storage
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import QuantGraph


def sample(seed: int) -> QuantGraph:
    rng = np.random.default_rng(seed)
    return random_integers(random_graph(rng, length=20, concat=True, pools=True, dilation=True, lstm=True), rng)


@pytest.mark.parametrize("seed", range(5))
def test_round_trip_is_exact(tmp_path: Path, seed: int) -> None:
    q = sample(seed)
    storage.save(q, tmp_path)
    found = storage.load(tmp_path)
    assert found.graph == q.graph
    assert (found.quants, found.multipliers, found.labels) == (q.quants, q.multipliers, q.labels)
    assert found.constants.keys() == q.constants.keys()
    for index, constants in q.constants.items():
        for name in storage.FIELDS:
            left, right = getattr(found.constants[index], name), getattr(constants, name)
            assert left.dtype == right.dtype
            assert np.array_equal(left, right)
    assert found.lstms.keys() == q.lstms.keys() != set()
    for index, lstm in q.lstms.items():
        for name in storage.LSTM_FIELDS:
            left, right = getattr(found.lstms[index], name), getattr(lstm, name)
            assert type(left) is type(right) and np.array_equal(left, right)
    assert storage.content_hash(found) == storage.content_hash(q)
    x = np.random.default_rng(1).integers(-128, 128, (3, 20, q.graph.input_shape.channels), dtype=np.int8)
    assert (reference.run(found, x) == reference.run(q, x)).all()


@pytest.mark.parametrize("seed", range(3))
def test_modalities_come_back(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = arbitrary(random_modalities(rng, longest=20), rng)
    storage.save(q, tmp_path)
    found = storage.load(tmp_path)
    assert found.graph == q.graph and storage.content_hash(found) == storage.content_hash(q)
    x = rng.integers(-128, 128, (2, q.graph.input_shape.length, q.graph.input_shape.channels), dtype=np.int8)
    assert (reference.run(found, x) == reference.run(q, x)).all()


def test_scales_come_back_to_the_last_bit(tmp_path: Path) -> None:
    q = sample(0)
    odd = tuple(replace(u, scale=float(np.float32(0.1 + u.zero_point / 999))) for u in q.quants)
    q = replace(q, quants=odd)
    storage.save(q, tmp_path)
    assert storage.load(tmp_path).quants == odd


def test_the_same_student_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        storage.save(sample(2), tmp_path / name)
    assert (tmp_path / "a" / storage.TENSOR_FILE).read_bytes() == (tmp_path / "b" / storage.TENSOR_FILE).read_bytes()


def test_the_content_hash_sees_one_weight() -> None:
    q = sample(0)
    before = storage.content_hash(q)
    next(iter(q.constants.values())).bias[0] ^= 1
    assert storage.content_hash(q) != before


def test_files_of_two_students_are_told_apart(tmp_path: Path) -> None:
    storage.save(sample(0), tmp_path / "a")
    storage.save(sample(1), tmp_path / "b")
    (tmp_path / "a" / storage.GRAPH_FILE).write_bytes((tmp_path / "b" / storage.GRAPH_FILE).read_bytes())
    with pytest.raises(QuantizationError, match="different students"):
        storage.load(tmp_path / "a")


@pytest.mark.parametrize("name", [storage.GRAPH_FILE, storage.TENSOR_FILE])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    storage.save(sample(0), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(QuantizationError, match="not the folder of a student"):
        storage.load(tmp_path)


@pytest.mark.parametrize("name", [storage.GRAPH_FILE, storage.TENSOR_FILE])
def test_damage_never_goes_unseen(tmp_path: Path, name: str) -> None:
    """Cut anywhere, or one byte changed anywhere: QuantizationError, or (white space of the JSON) the very same student."""
    storage.save(sample(0), tmp_path)
    path, want = tmp_path / name, storage.content_hash(storage.load(tmp_path))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 150):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        for bad in (content[:position], bytes(broken)):
            path.write_bytes(bad)
            try:
                found = storage.load(tmp_path)
            except QuantizationError:
                continue
            assert storage.content_hash(found) == want


@pytest.mark.parametrize("name", ["scale", "zero_point"])
def test_an_edited_quantisation_is_seen(tmp_path: Path, name: str) -> None:
    """What is not a tensor stands under the checksum too."""
    storage.save(sample(0), tmp_path)
    path = tmp_path / storage.TENSOR_FILE
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["hwnas"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    header["quants"][0][name == "zero_point"] += 1
    path.write_bytes(to_safetensors(tensors, {"hwnas": json.dumps(header)}))
    with pytest.raises(QuantizationError, match="damaged or was edited"):
        storage.load(tmp_path)


def test_reading_a_student_needs_no_torch(tmp_path: Path) -> None:
    storage.save(sample(0), tmp_path)
    code = (
        "import sys, pathlib; from hwnas.quantize import storage; storage.load(pathlib.Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
