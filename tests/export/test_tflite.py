"""TFLite files: operator by operator within one step for every set of kernels, end to end close, damage refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from random_students import quantized_student, random_graph, random_integers, random_windows
from tflite_runtime.interpreter import Interpreter

from hwnas.errors import ExportError, RunError
from hwnas.export import tflite
from hwnas.export.runtimes import TfliteKernels, TfliteSession, run_tflite
from hwnas.graph import Conv1d, GlobalAvgPool
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph


def sample(seed: int, length: int | None = 61, blocks: int = 3) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), length=length, blocks=blocks)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, 40, seed + 9))


def assert_close(found: Int8, expected: Int8) -> None:
    """Random narrow students amplify single steps; against the spread of their outputs that stays small."""
    difference = found.astype(float) - expected
    assert np.sqrt(np.square(difference).mean()) < 0.15 * expected.std() + 1


@pytest.mark.parametrize("seed", range(8))
def test_written_files_stay_within_one_step_an_operator(tmp_path: Path, seed: int) -> None:
    q, x = sample(seed, length=(61, 200, 7, 1)[seed % 4])
    path = tmp_path / "model.tflite"
    comparison = tflite.write(q, path, x)
    assert comparison.windows == len(x)
    assert comparison.operator_largest_step <= 1
    found = run_tflite(path, x)
    expected = reference.run(q, x)
    assert found.shape == expected.shape
    assert_close(found, expected)
    assert comparison.share_differing == float((found != expected).mean())


@pytest.mark.parametrize("kernels", TfliteKernels)
def test_a_deep_student_end_to_end(tmp_path: Path, kernels: TfliteKernels) -> None:
    q, x = sample(11, length=300, blocks=6)
    tflite.write(q, tmp_path / "m.tflite", x[:5])
    assert_close(run_tflite(tmp_path / "m.tflite", x, kernels), reference.run(q, x))


def test_the_file_is_what_a_user_expects(tmp_path: Path) -> None:
    q, x = sample(0)
    path = tmp_path / "m.tflite"
    tflite.write(q, path, x)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    channels, length, _ = q.graph.input_shape
    assert source["name"] == "input"
    assert source["shape"].tolist() == [1, 1, length, channels]
    assert source["dtype"] is np.int8
    assert source["quantization"] == (pytest.approx(q.input.scale), q.input.zero_point)
    assert (output["name"], output["dtype"]) == ("logits", np.int8)
    assert output["quantization"] == (pytest.approx(q.output.scale), q.output.zero_point)
    signature = interpreter.get_signature_runner("serving_default")
    assert (signature(input=x[:1, None])["logits"] == run_tflite(path, x[:1])).all()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    assert model.description.decode().endswith(", ".join(q.labels))
    versions = {c.builtinCode: c.version for c in model.operatorCodes}
    assert versions == {code: tflite.VERSIONS[code] for code in versions}


def test_the_same_student_gives_the_same_bytes() -> None:
    q, _ = sample(1)
    assert tflite.to_bytes(q) == tflite.to_bytes(q)


def test_an_operator_that_disagrees_is_not_written(tmp_path: Path) -> None:
    """The file holds scales, the reference holds multipliers: pull them apart and the check must see it."""
    q, x = sample(2)
    index = next(i for i, n in enumerate(q.graph.nodes) if isinstance(n.op, Conv1d))
    constants = q.constants[index]
    wrong = replace(constants, multiplier=(constants.multiplier * 0.9).astype(np.int32))
    with pytest.raises(ExportError, match=rf"node {index} \(conv1d\) is \d+ steps"):
        tflite.write(replace(q, constants={**q.constants, index: wrong}), tmp_path / "m.tflite", x)
    pool = next(i for i, n in enumerate(q.graph.nodes) if isinstance(n.op, GlobalAvgPool))
    moved = {**q.multipliers, pool: (q.multipliers[pool][0] // 2,)}
    with pytest.raises(ExportError, match=f"node {pool} "):
        tflite.write(replace(q, multipliers=moved), tmp_path / "m.tflite", x)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_verify_with_is_an_error(tmp_path: Path) -> None:
    q, x = sample(2)
    with pytest.raises(ExportError, match="no windows"):
        tflite.write(q, tmp_path / "m.tflite", x[:0])


def test_damage_is_refused_before_the_runtime_reads_it(tmp_path: Path) -> None:
    q, x = sample(3)
    path = tmp_path / "m.tflite"
    tflite.write(q, path, x)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 80):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        for bad in (content[:position], bytes(broken), content + b"\0"):
            path.write_bytes(bad)
            with pytest.raises(ExportError, match="damaged"):
                run_tflite(path, x)
    with pytest.raises(ExportError, match="cannot read"):
        run_tflite(tmp_path / "absent.tflite", x)


def test_other_windows_are_refused(tmp_path: Path) -> None:
    q, x = sample(3)
    path = tmp_path / "m.tflite"
    tflite.write(q, path, x)
    others: list[Any] = [x[:, 1:], x.astype(np.float32), x[:0]]
    for bad in others:
        with pytest.raises(ExportError):
            run_tflite(path, bad)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    q, x = sample(3)
    monkeypatch.setattr("hwnas.resources.os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        tflite.write(q, tmp_path / "m.tflite", x)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_extreme_integers_is_loadable() -> None:
    rng = np.random.default_rng(0)
    q = random_integers(random_graph(rng, length=30), rng)
    x = rng.integers(-128, 128, (2, 1, 30, q.graph.input_shape.channels), dtype=np.int8)
    assert TfliteSession(tflite.to_bytes(q), "m", TfliteKernels.BUILTIN).run(x).shape == (2, q.graph.output_shape.channels)
    assert "tensorflow" not in sys.modules
