"""TFLite files: what a user's tools read in them, how operators are spelled, and how close each runtime's kernels come."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from made_integers import made_integers
from random_students import quantized_student, random_graph, random_integers, random_windows
from tflite_runtime.interpreter import Interpreter, OpResolverType

from hwnas.errors import ExportError
from hwnas.export import tflite
from hwnas.export.runtimes import TfliteKernels, TfliteSession, run_tflite
from hwnas.export.tflite.model import BUFFER_ALIGNMENT, SUPPORT, Operator
from hwnas.graph import Concat, Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, Lstm
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph

# What a file may need beside its integers: tables of an operator and its tensors, and for an output channel three numbers of 4 bytes, some
# of the zero points and what is lost to alignment.
BYTES_AN_OPERATOR, BYTES_A_CHANNEL = 650, 24


def sample(seed: int, **kinds: Any) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), **{"length": 61} | kinds)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, 40, seed + 9))


def with_lstm(*, last: bool) -> tuple[QuantGraph, Int8]:
    builder = GraphBuilder()
    x = builder.add(Lstm(6, last), builder.add(Conv1d(5, 3, 2), builder.add(Input(2, 30))))
    builder.add(Dense(3), x if last else builder.add(GlobalAvgPool(), x))
    q = made_integers(builder.build(), 0)
    return q, np.random.default_rng(0).integers(-128, 128, (6, 30, 2), dtype=np.int8)


def unpacked(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def operators(model: Any) -> list[int]:
    return [model.operatorCodes[o.opcodeIndex].builtinCode for o in model.subgraphs[0].operators]


def test_the_file_is_what_a_user_expects(tmp_path: Path) -> None:
    q, x = sample(0)
    path = tmp_path / "m.tflite"
    tflite.write(q, path, x)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    channels, length, _ = q.graph.input_shape
    assert (source["name"], source["dtype"]) == ("input", np.int8)
    assert source["shape"].tolist() == [1, 1, length, channels]
    assert source["shape_signature"].tolist() == [-1, 1, length, channels]
    assert source["quantization"] == (pytest.approx(q.input.scale), q.input.zero_point)
    assert (output["name"], output["dtype"]) == ("logits", np.int8)
    assert output["shape"].tolist() == [1, len(q.labels)]
    assert output["quantization"] == (pytest.approx(q.output.scale), q.output.zero_point)
    signature = interpreter.get_signature_runner("serving_default")
    assert (signature(input=x[:1, None])["logits"] == run_tflite(path, x[:1])).all()
    model = unpacked(path.read_bytes())
    assert model.description.decode().endswith(", ".join(q.labels))
    metadata = {m.name.decode(): bytes(model.buffers[m.buffer].data) for m in model.metadata}
    assert json.loads(metadata["hwnas"]) == {"graph": q.graph.hash, "labels": list(q.labels)}
    assert metadata["min_runtime_version"] == b"1.14.0".ljust(16, b"\0")


def test_operator_versions_are_the_lowest_that_read_int8() -> None:
    """By the tables of TFLite's `op_version.cc`: only the LSTM's is a choice (its integers are told by tensor types)."""
    q, _ = sample(6, concat=True, pools=True, lstm=True, modalities=True, blocks=6)
    model = unpacked(tflite.to_bytes(q))
    found = {code.builtinCode: code.version for code in model.operatorCodes}
    lowest = {Operator.CONV_2D: 3, Operator.DEPTHWISE_CONV_2D: 3, Operator.RESHAPE: 1, Operator.UNIDIRECTIONAL_SEQUENCE_LSTM: 2}
    assert found == {code: lowest.get(code, 2) for code in found}
    assert set(found) <= set(SUPPORT)
    assert len(found) >= 7


def test_every_tensor_is_an_integer() -> None:
    q, _ = with_lstm(last=True)
    integers = {schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.INT32}
    assert {t.type for t in unpacked(tflite.to_bytes(q)).subgraphs[0].tensors} <= integers


@pytest.mark.parametrize("last", [False, True])
def test_an_lstm_is_one_operator_in_integers(tmp_path: Path, last: bool) -> None:
    q, x = with_lstm(last=last)
    comparison = tflite.write(q, tmp_path / "m.tflite", x)
    assert comparison.operator_steps["lstm"] <= 2
    model = unpacked((tmp_path / "m.tflite").read_bytes())
    assert operators(model).count(Operator.UNIDIRECTIONAL_SEQUENCE_LSTM) == 1
    tensors = model.subgraphs[0].tensors
    (lstm,) = [o for o in model.subgraphs[0].operators if len(o.inputs) == 24]
    gates, states = [tensors[i] for i in lstm.intermediates[:4]], [t for t in tensors if t.isVariable]
    assert [g.quantization.scale[0] for g in gates] == [2.0**-12] * 4
    assert [(t.type, t.quantization.scale[0]) for t in states] == [
        (schema.TensorType.INT8, pytest.approx(q.quants[2].scale)),
        (schema.TensorType.INT16, 2.0**-11),
    ]
    assert lstm.builtinOptions.timeMajor is False


def test_windows_of_an_lstm_do_not_touch_each_other(tmp_path: Path) -> None:
    """The runtime keeps states between calls; every window must start from zero, whatever ran before."""
    q, x = with_lstm(last=True)
    tflite.write(q, tmp_path / "m.tflite", x)
    together = run_tflite(tmp_path / "m.tflite", x)
    for order in ([3, 1], [0, 5, 2], [4]):
        assert (run_tflite(tmp_path / "m.tflite", x[order]) == together[order]).all()
    assert len(np.unique(together, axis=0)) > 1


def test_an_lstm_with_several_scales_a_gate_is_refused(tmp_path: Path) -> None:
    q, x = with_lstm(last=False)
    q.lstms[2].multiplier[1, 2] += 1
    with pytest.raises(ExportError, match=r"node 2 \(lstm\).*one scale a gate"):
        tflite.write(q, tmp_path / "m.tflite", x)


def test_a_concatenation_requantises_only_what_needs_it() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, relu=False), builder.add(Input(1, 20)))
    x = builder.add(Concat(), x, builder.add(Conv1d(3, relu=False), x))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    q = made_integers(builder.build(), 0)
    assert operators(unpacked(tflite.to_bytes(q, [3]))) == [Operator.DEPTHWISE_CONV_2D] * 2 + [Operator.CONCATENATION]
    same = QuantGraph(q.graph, (*q.quants[:3], q.quants[1], *q.quants[4:]), q.constants, {**q.multipliers, 3: (1 << 20, 1 << 20)}, q.labels)
    assert operators(unpacked(tflite.to_bytes(same, [3]))) == [Operator.DEPTHWISE_CONV_2D, Operator.CONCATENATION]


@pytest.mark.parametrize("kernels", TfliteKernels)
def test_a_deep_student_end_to_end(tmp_path: Path, kernels: TfliteKernels) -> None:
    q, x = sample(11, length=300, blocks=6)
    comparison = tflite.write(q, tmp_path / "m.tflite", x)
    found, expected = run_tflite(tmp_path / "m.tflite", x, kernels), reference.run(q, x)
    assert comparison.kernels[kernels.name.lower()].share_differing == float((found != expected).mean())
    assert np.sqrt(np.square(found.astype(float) - expected).mean()) < 0.15 * expected.std() + 1


@pytest.mark.parametrize("seed", range(4))
def test_kernels_that_round_once_agree(tmp_path: Path, seed: int) -> None:
    """XNNPACK multiplies in float32 and rounds once: what is left of the differences are products beside a half."""
    q, x = sample(20 + seed, length=200, concat=True, pools=True, dilation=True)
    found = tflite.write(q, tmp_path / "m.tflite", x).kernels["xnnpack"]
    assert found.share_within_one_step == 1.0
    assert found.share_differing < 0.05


def test_the_default_delegate_of_tflite_runtime_leaves_int8_alone(tmp_path: Path) -> None:
    """Why `TfliteKernels` has no entry for it."""
    q, x = sample(3)
    content, outputs = tflite.to_bytes(q), []
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        assert "DELEGATE" not in {row["op_name"] for row in interpreter._get_ops_details()}
        signature = interpreter.get_signature_runner("serving_default")
        outputs.append(np.concatenate([signature(input=window[None, None])["logits"] for window in x]))
    assert (outputs[0] == outputs[1]).all()


def test_constants_of_equal_bytes_are_stored_once_and_aligned() -> None:
    q, _ = sample(1, concat=True, pools=True)
    content = tflite.to_bytes(q)
    buffers = [bytes(b.data) for b in unpacked(content).buffers if b.data is not None]
    assert len(buffers) == len(set(buffers))
    model = schema.Model.GetRootAs(content, 0)
    for index in range(1, model.BuffersLength()):
        table = model.Buffers(index)._tab
        assert table.Vector(table.Offset(4)) % BUFFER_ALIGNMENT == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_file_is_little_more_than_its_integers(seed: int) -> None:
    q, _ = sample(seed, blocks=5, channels=24)
    channels = sum(n.shape.channels for n in q.graph.nodes)
    assert len(tflite.to_bytes(q)) < q.graph.parameters + BYTES_AN_OPERATOR * len(q.graph.nodes) + BYTES_A_CHANNEL * channels + 1500


def test_a_graph_of_extreme_integers_is_loadable() -> None:
    rng = np.random.default_rng(0)
    q = random_integers(random_graph(rng, length=30), rng)
    x = rng.integers(-128, 128, (2, 1, 30, q.graph.input_shape.channels), dtype=np.int8)
    assert TfliteSession(tflite.to_bytes(q), "m", TfliteKernels.BUILTIN).run(x).shape == (2, q.graph.output_shape.channels)


def test_a_dense_layer_in_the_middle(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.add(GlobalAvgPool(), builder.add(Input(3, 9)))
    builder.add(Dense(2), builder.add(Conv1d(4), builder.add(Dense(5), x)))
    graph: Graph = builder.build()
    q = made_integers(graph, 0)
    x8 = np.random.default_rng(0).integers(-128, 128, (9, 9, 3), dtype=np.int8)
    assert tflite.write(q, tmp_path / "m.tflite", x8).windows == 9


def test_no_tensorflow_is_needed() -> None:
    code = "import sys; import hwnas.export.tflite; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
