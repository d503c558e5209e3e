"""ONNX files: what a user's tools read in them, integers stored as integers, dynamic batch, rounding as the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from made_integers import made_integers
from random_students import quantized_student, random_graph, random_windows

from hwnas.errors import ExportError
from hwnas.export import onnx
from hwnas.export.runtimes import OnnxSession, run_onnx
from hwnas.graph import Conv1d, Dense, GlobalAvgPool, GraphBuilder, Input, Lstm
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph


def sample(seed: int, **kinds: Any) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), **{"length": 61} | kinds)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, 40, seed + 9))


def test_the_file_is_what_a_user_expects(tmp_path: Path) -> None:
    q, x = sample(0)
    path = tmp_path / "m.onnx"
    onnx.write(q, path, x)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("input", "tensor(int8)", ["windows", *q.graph.input_shape[:2]])
    assert (output.name, output.type, output.shape) == ("logits", "tensor(int8)", ["windows", len(q.labels)])
    properties = session.get_modelmeta().custom_metadata_map
    assert (properties["labels"], properties["graph"]) == (",".join(q.labels), q.graph.hash)
    for count in (1, 7):
        assert session.run(None, {"input": x[:count].transpose(0, 2, 1)})[0].shape == (count, len(q.labels))


def test_constants_are_stored_as_integers() -> None:
    q, _ = sample(6, concat=True, pools=True, lstm=True, modalities=True, blocks=6)
    model = onnx_format.load_from_string(onnx.to_bytes(q))
    types = onnx_format.TensorProto
    for constant in model.graph.initializer:
        indices = constant.name.startswith(("axes", "shape"))
        expected = {types.FLOAT} if "scale" in constant.name else {types.INT64} if indices else {types.INT8, types.INT32}
        assert constant.data_type in expected
    assert [(o.domain, o.version) for o in model.opset_import] == [("", onnx.OPSET)]
    names = [c.name for c in model.graph.initializer]
    assert len(names) == len(set(names))
    read = {name for node in model.graph.node for name in node.input}
    assert set(names) <= read
    written = {name for node in model.graph.node if node.op_type != "LSTM" for name in node.output}
    assert written - read == {"logits"}


@pytest.mark.parametrize("seed", range(8))
def test_rounding_is_the_reference_s(tmp_path: Path, seed: int) -> None:
    """One rounding each: they part only where float32 products fall on the other side of a half."""
    kinds = [{}, {"concat": True}, {"pools": True}, {"modalities": True}][seed % 4]
    q, x = sample(seed, length=(61, 200, 7, 20)[seed % 4], **kinds)
    comparison = onnx.write(q, tmp_path / "m.onnx", x)
    assert comparison.operator_largest_step <= 1
    assert comparison.largest_step <= 2
    assert comparison.share_differing < 0.15


@pytest.mark.parametrize("last", [False, True])
def test_an_lstm_follows_the_reference(tmp_path: Path, last: bool) -> None:
    builder = GraphBuilder()
    x = builder.add(Lstm(6, last), builder.add(Conv1d(5, 3, 2), builder.add(Input(2, 40))))
    builder.add(Dense(3), x if last else builder.add(GlobalAvgPool(), x))
    q = made_integers(builder.build(), 0)
    x8 = np.random.default_rng(0).integers(-128, 128, (30, 40, 2), dtype=np.int8)
    onnx.write(q, tmp_path / "m.onnx", x8)
    found, expected = run_onnx(tmp_path / "m.onnx", x8), reference.run(q, x8)
    assert np.abs(found.astype(float) - expected).mean() < 0.05 * expected.std() + 0.2
    model = onnx_format.load(tmp_path / "m.onnx")
    assert [n.op_type for n in model.graph.node].count("LSTM") == 1


def test_rubbish_is_refused() -> None:
    with pytest.raises(ExportError, match="cannot load"):
        OnnxSession(b"rubbish", "rubbish")
