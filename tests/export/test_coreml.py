"""CoreML packages: our int8 weights byte by byte, every operator within one step, metadata, same bytes again; nothing is run by CoreML."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_students import quantized_student, random_graph, random_windows
from shipped_students import FAMILIES, family_graph, listing

from hwnas.errors import ExportError, RunError, UsageError
from hwnas.export import coreml
from hwnas.export.coreml.program import CORE_ML_GATES, DEQUANTIZE
from hwnas.graph import Conv1d, GlobalAvgPool, GraphBuilder, Input
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph

HAVE = importlib.util.find_spec("coremltools") is not None
needs_coremltools = pytest.mark.skipif(not HAVE, reason="coremltools is not installed: pip install 'hwnas[apple]'")
FACTS = {"task": "rhythm", "weights": "0123456789abcdef"}
KINDS: dict[str, dict[str, bool]] = {
    "plain": {},
    "joined and pooled": {"concat": True, "pools": True, "dilation": True},
    "recurrent": {"lstm": True},
    "modalities": {"modalities": True, "pools": True},
}


def sample(seed: int, windows: int = 6, **kinds: bool) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), length=61, **kinds)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, windows, seed + 9))


def of_family(family: str, windows: int = 4) -> tuple[QuantGraph, Int8]:
    graph = family_graph(family)
    _, q = quantized_student(graph, 3)
    return q, reference.quantize_input(q, random_windows(graph, windows, 7))


def tools() -> Any:
    return importlib.import_module("coremltools")


@needs_coremltools
@pytest.mark.parametrize("kind", KINDS)
def test_random_students_hold_operator_by_operator(kind: str, tmp_path: Path) -> None:
    q, x = sample(1, **KINDS[kind])
    found = coreml.write(q, tmp_path / "m.mlpackage", x, FACTS)
    assert found.windows == len(x)
    assert found.operator_largest_step <= 1 and found.lstm_largest_step <= 12
    assert (found.lstm_largest_step > 0) <= bool(q.lstms)


@needs_coremltools
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_holds_our_weights(family: str, tmp_path: Path) -> None:
    q, x = of_family(family)
    package = tmp_path / "m.mlpackage"
    coreml.write(q, package, x, FACTS)
    operations = coreml.read(tools(), package)
    held = {o.name: o.quantized_data.val for o in operations if o.op_type == DEQUANTIZE}
    everything = b"".join(weights.tobytes() for weights in held.values())
    ours = [*q.constants.values(), *q.lstms.values()]
    assert len(everything) == sum(each.weights.size for each in ours)
    assert sorted(everything) == sorted(b"".join(each.weights.tobytes() for each in ours))
    assert all(weights.dtype == np.int8 for weights in held.values())
    for index in (*q.constants, *q.lstms):
        expected = (q.lstms if index in q.lstms else q.constants)[index].weights
        assert coreml.held_weights(q, index, held).tobytes() == expected.tobytes()


@needs_coremltools
def test_the_package_is_what_a_user_expects(tmp_path: Path) -> None:
    q, x = of_family("mobilenet")
    package = tmp_path / "m.mlpackage"
    coreml.write(q, package, x, FACTS)
    spec = tools().models.MLModel(str(package), skip_model_load=True).get_spec()
    assert spec.specificationVersion == 7  # watchOS 9, iOS 16, macOS 13
    (source,), outputs = spec.description.input, spec.description.output
    assert source.name == "input" and list(source.type.multiArrayType.shape) == [1, 1, 500]
    assert [output.name for output in outputs] == ["logits", "probabilities"]
    facts = dict(spec.description.metadata.userDefined)
    assert facts["labels"] == ",".join(q.labels) and facts["graph"] == q.graph.hash
    assert facts["task"] == "rhythm" and "not run" in facts["status"] and "Not bit-exact" in facts["status"]
    integers = np.frombuffer(base64.b64decode(facts["check_window"]), np.int8).reshape(1, 500)
    assert np.array_equal(integers.T, x[0]) and float(facts["check_scale"]) == q.input.scale and facts["check_zero_point"] == "0"
    logits = (reference.run(q, x[:1]).astype(float) - q.output.zero_point) * q.output.scale
    wanted = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert np.abs(np.array(facts["check_probabilities"].split(","), float) - wanted).max() < 0.1
    assert q.graph.hash in spec.description.metadata.shortDescription
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in package.rglob("*") if path.is_file())


@needs_coremltools
def test_the_same_student_gives_the_same_bytes(tmp_path: Path) -> None:
    q, x = of_family("mobilenet", 1)
    for name in ("a", "b"):
        coreml.write(q, tmp_path / name / "m.mlpackage", x, FACTS)
    assert listing(tmp_path / "a") == listing(tmp_path / "b")
    manifest = json.loads((tmp_path / "a" / "m.mlpackage" / "Manifest.json").read_text())
    assert manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["name"] == "model.mlmodel"


@needs_coremltools
def test_a_program_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    """The package is built from scales and weights, the reference computes with multipliers: pull them apart and the replay must see it."""
    q, x = sample(2)
    index = next(i for i, n in enumerate(q.graph.nodes) if isinstance(n.op, Conv1d))
    constants = q.constants[index]
    wrong = replace(constants, multiplier=(constants.multiplier * 0.9).astype(np.int32))
    with pytest.raises(ExportError, match=rf"node {index} \(conv1d\) is \d+ steps"):
        coreml.write(replace(q, constants={**q.constants, index: wrong}), tmp_path / "m.mlpackage", x, FACTS)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_an_lstm_with_its_gates_in_another_order_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = of_family("lstm")
    monkeypatch.setattr("hwnas.export.coreml.program.CORE_ML_GATES", (0, 1, 2, 3))
    monkeypatch.setattr("hwnas.export.coreml.CORE_ML_GATES", (0, 1, 2, 3))
    with pytest.raises(ExportError, match=r"\(lstm\) is [\d.]+ steps"):
        coreml.write(q, tmp_path / "m.mlpackage", x, FACTS)
    assert CORE_ML_GATES == (0, 1, 3, 2)


@needs_coremltools
def test_weights_that_were_lost_on_the_way_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = of_family("mobilenet")

    def changed(*arguments: Any) -> Int8:
        weights = coreml_held(*arguments).copy()
        weights.flat[0] ^= 1
        return weights

    coreml_held = coreml.held_weights
    monkeypatch.setattr(coreml, "held_weights", changed)
    with pytest.raises(ExportError, match="other weights of node 1"):
        coreml.write(q, tmp_path / "m.mlpackage", x, FACTS)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_graphs_without_a_head_and_checks_without_windows_are_refused(tmp_path: Path) -> None:
    builder = GraphBuilder()
    builder.add(GlobalAvgPool(), builder.add(Conv1d(3), builder.add(Input(1, 20))))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    with pytest.raises(ExportError, match="ends in 'global_avg_pool'"):
        coreml.write(q, tmp_path / "m.mlpackage", np.zeros((1, 20, 1), np.int8), FACTS)
    with pytest.raises(ExportError, match="no windows"):
        coreml.write(q, tmp_path / "m.mlpackage", np.zeros((0, 20, 1), np.int8), FACTS)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    q, x = of_family("mobilenet", 1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="cannot write"):
        coreml.write(q, tmp_path / "file" / "m.mlpackage", x, FACTS)


def test_without_coremltools_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "coremltools", None)
    with pytest.raises(UsageError, match=r"pip install 'hwnas\[apple\]'"):
        coreml.require()
    q, x = sample(0)
    with pytest.raises(UsageError, match=r"pip install 'hwnas\[apple\]'"):
        coreml.write(q, tmp_path / "m.mlpackage", x, FACTS)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    q, x = of_family("mobilenet", 1)
    coreml.write(q, tmp_path / "m.mlpackage", x, FACTS)
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""
