"""What TFLite and ONNX files share: close operator by operator, verified before they are written, refused when they were touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from made_integers import made_integers
from random_students import quantized_student, random_graph, random_windows

from hwnas.errors import ExportError, RunError
from hwnas.export import onnx, tflite
from hwnas.export.comparison import end_to_end
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Op,
    Split,
)
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph


@dataclass(frozen=True)
class Format:
    module: ModuleType
    run: Callable[..., Int8]

    def write(self, q: QuantGraph, path: Path, x: Int8) -> Any:
        return self.module.write(q, path, x)


FORMATS = {"tflite": Format(tflite, run_tflite), "onnx": Format(onnx, run_onnx)}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


OPERATORS: dict[str, Op] = {
    "pointwise": Conv1d(9, relu=False),
    "conv, strided": Conv1d(7, 6, 3),
    "conv, dilated": Conv1d(7, 5, 2, dilation=3),
    "depthwise, strided": DepthwiseConv1d(5, 2),
    "depthwise, dilated": DepthwiseConv1d(4, relu=False, dilation=4),
    "sum": Add(),
    "concatenation": Concat(),
    "mean of two": AvgPool1d(2, 2),
    "mean of three, overlapping": AvgPool1d(3, 1),
    "mean of four": AvgPool1d(4, 3),
    "maximum": MaxPool1d(3, 2),
    "every other sample": MaxPool1d(1, 2),
    "lstm": Lstm(6),
    "lstm, last": Lstm(5, last=True),
    "lstm of one unit": Lstm(1),
}
EACH_MODALITY = [name for name, op in OPERATORS.items() if not isinstance(op, Concat | Lstm)]


def network(op: Op, *, modalities: bool = False, length: int = 7) -> Graph:
    """`op` between a convolution, or two, and a head; with modalities between Split and Join."""
    builder = GraphBuilder()
    x = builder.add(Input(3, length))
    if modalities:
        x = builder.add(Split(), x)
    x, y = builder.add(Conv1d(6, 3), x), builder.add(Conv1d(6, 3, relu=False), x)
    x = builder.add(op, x, y) if isinstance(op, Add | Concat) else builder.add(op, y)
    if modalities:
        x = builder.add(Join(), x)
    builder.add(Dense(4), builder.add(GlobalAvgPool(), x))
    return builder.build()


def random_int8(q: QuantGraph, count: int, seed: int) -> Int8:
    channels, length, _ = q.graph.input_shape
    return np.random.default_rng(seed).integers(-128, 128, (count, length, channels), dtype=np.int8)


def student(seed: int, **kinds: Any) -> tuple[QuantGraph, Int8]:
    graph = random_graph(np.random.default_rng(seed), **kinds)
    _, q = quantized_student(graph, seed)
    return q, reference.quantize_input(q, random_windows(graph, 40, seed + 9))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator(tmp_path: Path, form: Format, name: str) -> None:
    """Integers over their whole ranges, zero points at both ends; one step, LSTMs two in TFLite and measured in ONNX."""
    op = OPERATORS[name]
    q = made_integers(network(op, length=8 if isinstance(op, Lstm) else 26), 3)
    comparison = form.write(q, tmp_path / "model", random_int8(q, 20, 0))
    limit = 2 if form.module is tflite else 4
    assert all(step <= (limit if kind == "lstm" else 1) for kind, step in comparison.operator_steps.items())


@pytest.mark.parametrize("name", EACH_MODALITY)
def test_every_operator_on_modalities(tmp_path: Path, form: Format, name: str) -> None:
    q = made_integers(network(OPERATORS[name], modalities=True, length=12), 5)
    x = random_int8(q, 20, 1)
    comparison = form.write(q, tmp_path / "model", x)
    assert comparison.operator_largest_step <= 1
    assert comparison.operator_steps["split"] == comparison.operator_steps["join"] == 0
    assert form.run(tmp_path / "model", x[:3], q=q).shape == (3, 4)


def test_means_round_halves_up(tmp_path: Path, form: Format) -> None:
    """Half of all means of two are halves. The formats' own pools round them otherwise, on one output in two or four."""
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(AvgPool1d(2, 1), builder.add(Input(2, 300)))))
    for seed in range(4):
        q = made_integers(builder.build(), seed)
        assert form.write(q, tmp_path / "model", random_int8(q, 9, seed)).operator_steps["avg_pool1d"] == 0


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        (0, {"length": 61}),
        (1, {"length": 200, "concat": True}),
        (2, {"length": 7, "dilation": True}),
        (3, {"length": 1}),
        (4, {"length": 61, "pools": True, "concat": True}),
        (5, {"length": 40, "lstm": True}),
        (6, {"length": 40, "lstm": True, "concat": True}),
        (7, {"length": 90, "modalities": True}),
        (8, {"length": 90, "modalities": True, "pools": True, "dilation": True}),
    ],
)
def test_students_with_calibrated_ranges(tmp_path: Path, form: Format, seed: int, kinds: dict[str, Any]) -> None:
    q, x = student(seed, **kinds)
    path, expected = tmp_path / "model", reference.run(q, x)
    comparison = form.write(q, path, x)
    found = form.run(path, x)
    assert found.dtype == np.int8
    assert found.shape == expected.shape
    assert comparison.windows == len(x)
    assert comparison.operator_largest_step == max(comparison.operator_steps.values())
    assert asdict(end_to_end(found, expected)) == {k: v for k, v in asdict(comparison).items() if k in asdict(end_to_end(found, found))}
    # Random narrow students amplify single steps; against the spread of their outputs that stays small.
    assert np.sqrt(np.square(found.astype(float) - expected).mean()) < 0.15 * expected.std() + 1


def test_figures_of_a_comparison() -> None:
    expected = np.array([[10, 5, 0], [7, 7, 1], [0, 0, 127], [-128, 3, 2]], np.int8)
    found = np.array([[9, 5, 0], [7, 8, 1], [0, 0, -128], [-126, 3, 2]], np.int8)
    figures = end_to_end(found, expected)
    assert figures.share_differing == pytest.approx(4 / 12)
    assert figures.share_within_one_step == pytest.approx(10 / 12)
    assert figures.share_within_two_steps == pytest.approx(11 / 12)
    assert figures.share_same_class == pytest.approx(2 / 4)
    assert figures.largest_step == 255


def test_the_same_student_gives_the_same_bytes(form: Format) -> None:
    q, _ = student(1, length=30)
    assert form.module.to_bytes(q) == form.module.to_bytes(q)


def other_multipliers(q: QuantGraph, index: int) -> QuantGraph:
    constants = q.constants[index]
    wrong = replace(constants, multiplier=(constants.multiplier * 0.9).astype(np.int32))
    return replace(q, constants={**q.constants, index: wrong})


def other_mean(q: QuantGraph, index: int) -> QuantGraph:
    return replace(q, multipliers={**q.multipliers, index: (q.multipliers[index][0] // 2,)})


def other_gates(q: QuantGraph, index: int) -> QuantGraph:
    return replace(q, lstms={index: replace(q.lstms[index], hidden_multiplier=q.lstms[index].hidden_multiplier * 20)})


@pytest.mark.parametrize(("kind", "change"), [(Conv1d, other_multipliers), (GlobalAvgPool, other_mean), (Lstm, other_gates)])
def test_an_operator_that_disagrees_is_not_written(
    tmp_path: Path, form: Format, kind: type[Op], change: Callable[[QuantGraph, int], QuantGraph]
) -> None:
    """Files hold scales, the reference holds multipliers: pull them apart and the check must see it."""
    q = made_integers(network(Lstm(6)), 0)
    index = next(i for i, n in enumerate(q.graph.nodes) if isinstance(n.op, kind))
    with pytest.raises(ExportError, match=rf"node {index} \(.*\) is \d+ steps from the int8 reference"):
        form.write(change(q, index), tmp_path / "model", random_int8(q, 20, 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -0.1, 1e-60, 1e60])
def test_scales_that_are_none_are_refused(tmp_path: Path, form: Format, scale: float) -> None:
    q, x = student(2, length=20)
    quants = [*q.quants[:2], Quant(scale, q.quants[2].zero_point), *q.quants[3:]]
    with pytest.raises(ExportError, match=r"node 2 \(.*\) has the scale"):
        form.write(replace(q, quants=tuple(quants)), tmp_path / "model", x)
    constants = q.constants[1]
    broken = replace(constants, weight_scale=np.where(np.arange(len(constants.bias)) == 0, scale, constants.weight_scale))
    with pytest.raises(ExportError, match=r"node 1 \(conv1d\) has the scale"):
        form.write(replace(q, constants={**q.constants, 1: broken}), tmp_path / "model", x)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_a_form_is_refused(tmp_path: Path, form: Format) -> None:
    @dataclass(frozen=True)
    class Fourier:
        pass

    q, x = student(2, length=20)
    nodes = list(q.graph.nodes)
    nodes[2] = replace(nodes[2], op=Fourier())  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"node 2 \(Fourier\) has no (TFLite|ONNX) form"):
        form.write(replace(q, graph=Graph(tuple(nodes))), tmp_path / "model", x)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_verify_with_is_an_error(tmp_path: Path, form: Format) -> None:
    q, x = student(2, length=20)
    with pytest.raises(ExportError, match="no windows"):
        form.write(q, tmp_path / "model", x[:0])
    assert list(tmp_path.iterdir()) == []


def test_other_windows_are_refused(tmp_path: Path, form: Format) -> None:
    q, x = student(3, length=20)
    form.write(q, tmp_path / "model", x)
    others: list[Any] = [x[:, 1:], x.astype(np.float32), x[:0], x[0]]
    for bad in others:
        with pytest.raises(ExportError):
            form.run(tmp_path / "model", bad)


def test_a_full_disk_leaves_nothing(tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    q, x = student(3, length=20)
    monkeypatch.setattr("hwnas.resources.os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        form.write(q, tmp_path / "model", x)
    assert list(tmp_path.iterdir()) == []


def refused(form: Format, path: Path, content: bytes, x: Int8) -> None:
    path.write_bytes(content)
    with pytest.raises(ExportError, match="damaged"):
        form.run(path, x)


def damage(form: Format, path: Path, x: Int8, edits: int, rng: np.random.Generator) -> None:
    """Edits of a byte, of several, truncations, insertions, appended bytes."""
    content = path.read_bytes()
    for position in rng.integers(0, len(content), edits):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        blurred = bytearray(content)
        blurred[position : position + 8] = bytes(rng.integers(0, 256, len(blurred[position : position + 8]), dtype=np.uint8))
        tail = bytes(rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8))
        inserted = content[:position] + b"\0" + content[position:]
        for bad in (bytes(broken), content[:position], content + tail, inserted, *([bytes(blurred)] if blurred != content else [])):
            refused(form, path, bad, x)


def test_a_file_that_was_touched_is_refused_before_it_is_parsed(tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = student(3, length=20)
    path = tmp_path / "model"
    form.write(q, path, x)
    content = path.read_bytes()
    for name in ("TfliteSession", "OnnxSession"):
        monkeypatch.setattr(f"hwnas.export.runtimes.{name}", lambda *_: pytest.fail("the runtime saw a damaged file"))
    damage(form, path, x, 25, np.random.default_rng(0))
    for text in (b"class1", b"hwnas-student:", q.graph.hash.encode(), b"labels"):
        assert text in content
        refused(form, path, content.replace(text, text[:-1] + b"?"), x)
    refused(form, path, b"", x)
    with pytest.raises(ExportError, match="cannot read"):
        form.run(tmp_path / "absent", x)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [{}, {"lstm": True}, {"modalities": True}])
def test_touched_files_at_many_places(tmp_path: Path, form: Format, kinds: dict[str, Any]) -> None:
    q, x = student(5, length=30, **kinds)
    path = tmp_path / "model"
    form.write(q, path, x)
    damage(form, path, x, 2000, np.random.default_rng(1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_many_students(tmp_path: Path, form: Format, seed: int) -> None:
    kinds = {name: bool(seed >> bit & 1) for bit, name in enumerate(("concat", "pools", "dilation", "lstm", "modalities"))}
    q, x = student(100 + seed, length=int(np.random.default_rng(seed).integers(1, 400)), blocks=4, **kinds)
    comparison = form.write(q, tmp_path / "model", x)
    assert all(step <= 1 for kind, step in comparison.operator_steps.items() if kind != "lstm")


def test_files_of_another_student_or_format_are_refused(tmp_path: Path, form: Format) -> None:
    (first, x), path = student(3, length=20), tmp_path / "model"
    form.write(first, path, x)
    second = made_integers(first.graph, 1)
    assert form.run(path, x, q=first).shape == (len(x), len(first.labels))
    with pytest.raises(ExportError, match="another student"):
        form.run(path, x, q=second)
    for other in (other for other in FORMATS.values() if other is not form):
        with pytest.raises(ExportError, match="cannot load"):
            other.run(path, x)
