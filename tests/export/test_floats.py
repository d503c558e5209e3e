"""Float weights on disk: they come back exactly, other frameworks can read them, and everything that does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_students import random_graph, random_windows, warmed_student
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hwnas.errors import ExportError, RunError
from hwnas.export import floats
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, Lstm
from hwnas.student import Student

WEIGHTS = floats.WEIGHTS_FILE
Tensors = dict[str, np.ndarray[Any, Any]]


def made(seed: int, **kinds: bool) -> Student:
    graph = random_graph(np.random.default_rng(seed), length=40, **kinds)
    return warmed_student(graph, seed)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    floats.save(made(0), tmp_path)
    return tmp_path


def rewritten(folder: Path, change: Callable[[Tensors], None], **header: object) -> None:
    """Replace the file as an editor of it would, its checksum left as it was unless `header` says otherwise."""
    path = folder / WEIGHTS
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["hwnas"])
    change(tensors)
    save_file(tensors, path, {"hwnas": json.dumps(metadata | header)})


@pytest.mark.parametrize("seed", range(6))
def test_a_student_comes_back_exactly(seed: int, tmp_path: Path) -> None:
    student = made(seed)
    floats.save(student, tmp_path)
    again = floats.load(tmp_path)
    assert again.graph == student.graph and not again.training
    x = torch.from_numpy(random_windows(student.graph, 9, seed))
    with torch.no_grad():
        assert torch.equal(again(x)[0], student(x)[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.json", WEIGHTS]


def test_the_names_are_those_of_the_description(tmp_path: Path) -> None:
    """The module's head is what another framework's reader goes by."""
    student = made(3)
    floats.save(student, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    left = {name for name in tensors if not name.endswith("num_batches_tracked")}
    for index, node in enumerate(student.graph.nodes[1:], start=1):
        source = student.graph.in_shape(node)
        shapes: dict[str, tuple[int, ...]] = {}
        if isinstance(node.op, Conv1d | DepthwiseConv1d):
            inputs = source.channels if isinstance(node.op, Conv1d) else 1
            shapes = {"conv.weight": (node.shape.channels, inputs, 1, node.op.kernel)}
            shapes |= {f"bn.{name}": (node.shape.channels,) for name in ("weight", "bias", "running_mean", "running_var")}
        elif isinstance(node.op, Dense):
            shapes = {"weight": (node.op.units, source.channels), "bias": (node.op.units,)}
        elif isinstance(node.op, Lstm):
            rows = 4 * node.op.units
            shapes = {"weight_ih_l0": (rows, source.channels), "weight_hh_l0": (rows, node.op.units)}
            shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
        for name, shape in shapes.items():
            assert tensors[f"nodes.{index}.{name}"].shape == shape
            assert tensors[f"nodes.{index}.{name}"].dtype == np.float32
            left.remove(f"nodes.{index}.{name}")
    assert not left


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_student_is_not_written(value: float, tmp_path: Path) -> None:
    student = made(0)
    with torch.no_grad():
        student.nodes["1"].conv.weight[0, 0, 0, 0] = value  # type: ignore[union-attr, index, operator]
    with pytest.raises(ExportError, match=r"NaN or infinity in 'nodes\.1\.conv\.weight' \(conv1d\)"):
        floats.save(student, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_refused(saved: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors["nodes.1.bn.running_var"][0] = np.inf

    rewritten(saved, change)
    with pytest.raises(ExportError, match=r"NaN or infinity in 'nodes\.1\.bn\.running_var' \(conv1d\)"):
        floats.load(saved)


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    original = (saved / WEIGHTS).read_bytes()
    name = "nodes.1.conv.weight"

    def missing(tensors: Tensors) -> None:
        del tensors[name]

    def extra(tensors: Tensors) -> None:
        tensors["nodes.99.weight"] = np.zeros(3, np.float32)

    def shape(tensors: Tensors) -> None:
        tensors[name] = tensors[name][:, :, 0]

    def kind(tensors: Tensors) -> None:
        tensors[name] = tensors[name].astype(np.float64)

    def value(tensors: Tensors) -> None:
        tensors[name] = tensors[name] * np.float32(1.0001)

    for change, message in (
        (missing, rf"lacks tensors '{name}' \(conv1d\)"),
        (extra, r"unknown tensors 'nodes\.99\.weight'"),
        (shape, rf"'{name}' \(conv1d\) is float32 \(.*\), expected float32 \("),
        (kind, rf"'{name}' \(conv1d\) is float64 .*, expected float32 "),
        (value, "checksum differs"),
    ):
        rewritten(saved, change)
        with pytest.raises(ExportError, match=message):
            floats.load(saved)
        (saved / WEIGHTS).write_bytes(original)
    floats.load(saved)


def test_headers_that_do_not_fit_are_named(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    rewritten(saved, lambda _: None, format="hwnas-float-0")
    with pytest.raises(ExportError, match="format 'hwnas-float-0'"):
        floats.load(saved)
    save_file(load_file(saved / WEIGHTS), saved / WEIGHTS)
    with pytest.raises(ExportError, match="no entry 'hwnas'"):
        floats.load(saved)
    save_file(load_file(saved / WEIGHTS), saved / WEIGHTS, {"hwnas": "3"})
    with pytest.raises(ExportError, match="no JSON object"):
        floats.load(saved)
    other = tmp_path_factory.mktemp("other")
    floats.save(made(1), other)
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(ExportError, match="belong to different students"):
        floats.load(saved)


@pytest.mark.parametrize("name", ["graph.json", WEIGHTS])
def test_files_that_are_none(name: str, saved: Path) -> None:
    content = (saved / name).read_bytes()
    for bad in (content[: len(content) // 2], b"", b"\xff\xfe nothing"):
        (saved / name).write_bytes(bad)
        with pytest.raises(ExportError, match=name):
            floats.load(saved)
    (saved / name).unlink()
    with pytest.raises(ExportError, match=f"cannot read .*{name}: No such file"):
        floats.load(saved)


def test_every_flipped_byte_is_noticed(saved: Path) -> None:
    """Nothing that differs from what was written is loaded as if it were the student."""
    content = (saved / WEIGHTS).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        (saved / WEIGHTS).write_bytes(broken)
        with pytest.raises(ExportError, match=WEIGHTS):
            floats.load(saved)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hwnas.resources.os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        floats.save(made(0), tmp_path)
    assert list(tmp_path.iterdir()) == []
