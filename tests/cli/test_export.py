"""`hwnas export`: what it prints, and what people get wrong: one clear message, exit code 1 or 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shipped_students import listing, ship

from hwnas.cli.app import run
from hwnas.graph import OP_NAMES, GlobalAvgPool, Graph
from hwnas.pipeline import exporting
from hwnas.quantize import storage
from hwnas.tasks.synthetic import generator


@pytest.fixture(autouse=True)
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "WINDOWS", 12)
    monkeypatch.setattr(exporting, "SUBJECTS", 4)


def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator makes few windows where evaluation names no number."""
    generate: Any = generator.generate
    monkeypatch.setattr(generator, "generate", lambda **a: generate(**{**a, "subjects": 12, "windows": 60}))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "plain"
    ship(folder, "mobilenet")
    return folder


@pytest.fixture
def student(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "student"))


@pytest.fixture
def refused(student: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """`refused(code, words, arguments...)`: exit code and message are as expected, and not a byte around the student changes."""

    def check(code: int, words: list[str], *arguments: str) -> None:
        before = listing(student.parent)
        capsys.readouterr()
        assert run(["export", *arguments, "--quiet"]) == code
        message = capsys.readouterr().err
        assert "Traceback" not in message and "fault of hwnas" not in message
        for word in words:
            assert word in message, f"{word!r} is not in {message!r}"
        assert listing(student.parent) == before

    return check


def test_a_student_of_a_real_run(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder that a search leaves is the folder that an export reads."""
    student = next((finished / "students").iterdir())
    formats = [word for name in ("tflite", "onnx", "c", "float") for word in ("--format", name)]
    assert run(["export", str(student), *formats, "--out", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["exports"]) == ["tflite", "onnx", "c", "float"]
    assert result["student"] == student.name and result["verified_on"]["source"] == "synthetic"
    for name in ("model.tflite", "model.onnx", "weights.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (student / name).read_bytes()
    assert (tmp_path / "out" / "firmware" / "kernels").is_dir()


def test_what_it_prints(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(student), "--format", "tflite", "--format", "float"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("model.tflite", "graph.json", "12 windows", "verified on synthetic windows (signal generator", f"{student}-export"):
        assert word in shown
    assert run(["export", str(student), "--format", "float", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_last_line_counts_no_windows(student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats are verified on different numbers of windows; each has its own in the table."""
    pytest.importorskip("coremltools", reason="pip install 'hwnas[apple]'")
    monkeypatch.setattr(exporting, "COREML_WINDOWS", 3)
    assert run(["export", str(student), "--format", "coreml"]) == 0
    shown = capsys.readouterr().out
    assert "3 windows" in " ".join(shown.split())
    assert (
        shown.splitlines()[-1].startswith("verified on synthetic windows") and "12" not in shown.splitlines()[-1].partition("; written")[0]
    )


def test_evaluate_prints_what_is_asked_for(student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    few_windows(monkeypatch)
    assert run(["evaluate", str(student), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(["evaluate", str(student), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == 60
    assert run(["evaluate", str(student)]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_flags(student: Path, refused: Callable[..., None]) -> None:
    refused(2, ["unknown format 'tflight'", "Did you mean 'tflite'", "coreml"], str(student), "--format", "tflight")
    refused(2, ["--format"], str(student))
    refused(2, ["unknown hardware profile", "Did you mean 'nrf52840'"], str(student), "--format", "c", "--profile", "nrf52841")
    refused(2, ["--format c"], str(student), "--format", "onnx", "--profile", "nrf52840")
    refused(2, ["no exported student", "runs/NAME/students/ID"], str(student.parent), "--format", "onnx")
    refused(2, ["no exported student"], str(student / "card.json"), "--format", "onnx")
    refused(2, ["own folder", "--out"], str(student), "--format", "c", "--profile", "nrf52840", "--out", str(student))


def test_coreml_without_coremltools(student: Path, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    refused(2, ["coremltools", "pip install 'hwnas[apple]'"], str(student), "--format", "float", "--format", "coreml")


@pytest.mark.parametrize("name", ["card.json", "graph.json", "int8.safetensors", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "a byte", "binary"])
def test_damaged_files(name: str, damage: str, student: Path, refused: Callable[..., None]) -> None:
    path = student / name
    content = path.read_bytes()
    middle = len(content) - 20
    changed = {
        "empty": b"",
        "truncated": content[: len(content) * 2 // 3],
        "a byte": content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :],
        "binary": b"\xff\xfe\x00" * 40,
    }
    path.unlink()
    if damage != "missing":
        path.write_bytes(changed[damage])
    code = 2 if (name, damage) == ("card.json", "missing") else 1
    refused(code, [name], str(student), "--format", "tflite", "--format", "float")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_int8_scales_that_are_no_numbers(value: float, student: Path, refused: Callable[..., None]) -> None:
    """A file that someone made with `storage.save` from a broken student: sealed, and still wrong."""
    q = storage.load(student)
    index = next(iter(q.constants))
    q.constants[index].weight_scale[0] = value
    storage.save(q, student)
    card = json.loads((student / "card.json").read_text())
    (student / "card.json").write_text(json.dumps(card | {"weights_hash": storage.content_hash(q)}))
    refused(1, [f"node {index}"], str(student), "--format", "tflite")


def test_safetensors_of_another_graph(student: Path, tmp_path_factory: pytest.TempPathFactory, refused: Callable[..., None]) -> None:
    other = tmp_path_factory.mktemp("other")
    ship(other, "resnet", exports=False)
    for name, form in (("weights.safetensors", "float"), ("int8.safetensors", "onnx")):
        original = (student / name).read_bytes()
        (student / name).write_bytes((other / name).read_bytes())
        refused(1, [name, "different students"], str(student), "--format", form)
        (student / name).write_bytes(original)
    (student / "graph.json").write_bytes((other / "graph.json").read_bytes())
    refused(1, ["graph.json", "different students"], str(student), "--format", "onnx")


def test_tensors_that_are_missing_or_too_many(student: Path, refused: Callable[..., None]) -> None:
    path = student / "weights.safetensors"
    original = path.read_bytes()
    tensors = load_file(path)
    size = int.from_bytes(original[:8], "little")
    metadata = json.loads(original[8 : 8 + size])["__metadata__"]
    save_file({k: v for k, v in tensors.items() if k != "nodes.1.bn.bias"}, path, metadata)
    refused(1, ["lacks", "'nodes.1.bn.bias' (conv1d)"], str(student), "--format", "float")
    save_file(tensors | {"nodes.1.conv.bias": np.zeros(8, np.float32)}, path, metadata)
    refused(1, ["unknown", "'nodes.1.conv.bias' (conv1d)"], str(student), "--format", "float")


@pytest.mark.parametrize("form", ["tflite", "onnx", "coreml"])
def test_an_operator_that_a_format_lacks(form: str, student: Path, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "coreml":
        pytest.importorskip("coremltools", reason="pip install 'hwnas[apple]'")

    class Unheard:
        """An operator of a later version, without weights."""

    q = storage.load(student)
    index = next(i for i, node in enumerate(q.graph.nodes) if isinstance(node.op, GlobalAvgPool))
    strange = replace(q.graph.nodes[index], op=Unheard())  # type: ignore[arg-type]
    graph = Graph((*q.graph.nodes[:index], strange, *q.graph.nodes[index + 1 :]))
    monkeypatch.setitem(OP_NAMES, Unheard, "unheard")
    monkeypatch.setattr(exporting, "load_int8", lambda *_: replace(q, graph=graph))
    refused(1, [f"node {index}", "nheard"], str(student), "--format", form, "--format", "float")


def test_a_full_disk(student: Path, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hwnas.resources.os.fsync", full)
    for form in ("tflite", "onnx", "c", "float"):
        refused(1, ["No space left on device"], str(student), "--format", form, "--out", str(student.parent / "new" / "folder"))


def test_places_that_cannot_be_written(student: Path, refused: Callable[..., None]) -> None:
    (student.parent / "file").write_text("mine")
    refused(1, ["cannot write", "--out"], str(student), "--format", "float", "--out", str(student.parent / "file" / "below"))
    refused(2, ["no folder", "--out"], str(student), "--format", "float", "--out", str(student.parent / "file"))
    (student.parent / "mine" / "firmware").mkdir(parents=True)
    (student.parent / "mine" / "firmware" / "main.c").write_text("mine")
    refused(2, ["firmware", "not written by hwnas"], str(student), "--format", "c", "--out", str(student.parent / "mine"))
    (student.parent / "mine" / "model.onnx").write_text("mine")
    refused(2, ["model.onnx", "not written by hwnas"], str(student), "--format", "onnx", "--out", str(student.parent / "mine"))


@pytest.mark.parametrize(
    ("runtime", "name"),
    [("tflite", "model.tflite"), ("onnx", "model.onnx"), ("float", "weights.safetensors"), ("reference", "int8.safetensors")],
)
def test_evaluate_says_which_file_was_edited(
    runtime: str, name: str, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few_windows(monkeypatch)
    content = bytearray((student / name).read_bytes())
    content[len(content) // 2] ^= 1
    (student / name).write_bytes(content)
    assert run(["evaluate", str(student), "--runtime", runtime, "--quiet"]) == 1
    message = capsys.readouterr().err
    assert name in message and "export the student again" in message and "Traceback" not in message
