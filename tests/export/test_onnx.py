"""ONNX files: operator by operator within one step, dynamic batch, quantised from end to end, damage refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from random_students import quantized_student, random_graph, random_windows

from hwnas.errors import ExportError
from hwnas.export import onnx
from hwnas.export.runtimes import OnnxSession, run_onnx
from hwnas.graph import Conv1d
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph


def sample(seed: int, length: int | None = 61, blocks: int = 3) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), length=length, blocks=blocks)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, 40, seed + 9))


@pytest.mark.parametrize("seed", range(8))
def test_written_files_stay_within_one_step_an_operator(tmp_path: Path, seed: int) -> None:
    q, x = sample(seed, length=(61, 200, 7, 1)[seed % 4])
    path = tmp_path / "model.onnx"
    comparison = onnx.write(q, path, x)
    assert comparison.operator_largest_step <= 1
    assert comparison.largest_step <= 2
    found, expected = run_onnx(path, x), reference.run(q, x)
    assert found.shape == expected.shape
    assert found.dtype == np.int8
    # One rounding each: they part only where float32 products fall on the other side of a half.
    assert (found != expected).mean() < 0.15


def test_the_file_is_what_a_user_expects(tmp_path: Path) -> None:
    q, x = sample(0)
    path = tmp_path / "m.onnx"
    onnx.write(q, path, x)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("input", "tensor(int8)", ["windows", *q.graph.input_shape[:2]])
    assert (output.name, output.type, output.shape) == ("logits", "tensor(int8)", ["windows", len(q.labels)])
    assert session.get_modelmeta().custom_metadata_map["labels"] == ",".join(q.labels)
    for count in (1, 7):
        assert session.run(None, {"input": x[:count].transpose(0, 2, 1)})[0].shape == (count, len(q.labels))


def test_weights_are_stored_as_integers() -> None:
    q, _ = sample(0)
    model = onnx_format.load_from_string(onnx.to_bytes(q))
    for constant in model.graph.initializer:
        is_scale = "scale" in constant.name
        assert constant.data_type == (onnx_format.TensorProto.FLOAT if is_scale else constant.data_type)
        assert is_scale or constant.data_type in (onnx_format.TensorProto.INT8, onnx_format.TensorProto.INT32)
    assert model.opset_import[0].version == onnx.OPSET
    assert onnx.to_bytes(q) == onnx.to_bytes(q)


def test_an_operator_that_disagrees_is_not_written(tmp_path: Path) -> None:
    q, x = sample(2)
    index = next(i for i, n in enumerate(q.graph.nodes) if isinstance(n.op, Conv1d))
    constants = q.constants[index]
    wrong = replace(constants, multiplier=(constants.multiplier * 0.9).astype(np.int32))
    with pytest.raises(ExportError, match=rf"node {index} \(conv1d\) is \d+ steps"):
        onnx.write(replace(q, constants={**q.constants, index: wrong}), tmp_path / "m.onnx", x)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_refused(tmp_path: Path) -> None:
    q, x = sample(3)
    path = tmp_path / "m.onnx"
    onnx.write(q, path, x)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 100):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        for bad in (content[:position], bytes(broken)):
            path.write_bytes(bad)
            with pytest.raises(ExportError, match="damaged"):
                run_onnx(path, x)


def test_other_windows_are_refused(tmp_path: Path) -> None:
    q, x = sample(3)
    path = tmp_path / "m.onnx"
    onnx.write(q, path, x)
    others: list[Any] = [x[:, 1:], x.astype(np.float32), x[:0]]
    for bad in others:
        with pytest.raises(ExportError):
            run_onnx(path, bad)
    with pytest.raises(ExportError, match="cannot load"):
        OnnxSession(b"rubbish", "rubbish")
