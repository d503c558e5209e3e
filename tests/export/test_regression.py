"""Students of a value, by one output or by its classes, in every form: the read-out in C bit by bit, and what files say of it."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from made_task import PACE, paced, trained_bands
from random_students import quantized_student, random_windows
from tflite_runtime.interpreter import Interpreter

from hwnas.errors import ExportError, QuantizationError
from hwnas.export import c, onnx, tflite
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.firmware.build import build_host
from hwnas.firmware.cores import core
from hwnas.firmware.machine import Machine, read_elf
from hwnas.firmware.self_test import COMPILERS, RAM_ORIGIN, build_alone
from hwnas.graph import AvgPool1d, Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, Join, Split, Transpose
from hwnas.hardware.deployment import uniform
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.probabilities import probabilities
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import describe_outputs, read_out
from hwnas.tasks import TASKS, bpm

ALL: Int8 = np.arange(-128, 128).astype(np.int8)[:, None]
SIGNALS = c.Signals(32.0, TASKS["heart_rate"].channels, "band-passed from 0.4 to 8 Hz")
STORE = """
#include "model.h"
void store_value(const int8_t *output, uint16_t *value);
void store_value(const int8_t *output, uint16_t *value)
{
    *value = hwnas_model_value(output);
}
"""


def graph() -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 5, 2), builder.add(Split(), builder.add(Input(4, 64))))
    builder.add(Dense(1), builder.add(GlobalAvgPool(), builder.add(Conv1d(6, 3, 2), builder.add(Join(), x))))
    return builder.build()


def student() -> QuantGraph:
    return replace(quantized_student(graph(), 1)[1], labels=("bpm",))


def at(scale: float, point: int) -> QuantGraph:
    q = student()
    return replace(q, quants=(*q.quants[:-1], Quant(float(np.float32(scale)), point)))


def windows(q: QuantGraph, count: int = 40) -> Int8:
    return reference.quantize_input(q, random_windows(q.graph, count, 3))


@pytest.mark.parametrize(("scale", "point"), [(0.008, -7), (0.5, 0), (0.0003, 127), (0.07, -128), (2.0**-22, 0)])
def test_values_in_c_are_values_in_python(scale: float, point: int, tmp_path: Path) -> None:
    """All 256 outputs, of scales from the finest to the coarsest, at both ends of the zero point."""
    q = at(scale, point)
    c.write(q, uniform(q.graph), tmp_path, weights_hash="")
    build_host(tmp_path, tmp_path / "model.so")
    function = ctypes.CDLL(str(tmp_path / "model.so")).hwnas_model_value
    function.restype = ctypes.c_uint16
    found = [function(ctypes.c_void_p(output.ctypes.data)) for output in ALL]
    np.testing.assert_array_equal(found, read_out(q, ALL))


@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "zig for cortex-m4"])
def test_values_on_cortex_m4(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(COMPILERS[compiler].command[0]):
        pytest.skip(f"{compiler} is not installed")
    q = at(0.011, 33)
    x = windows(q, 1)
    c.write(q, uniform(q.graph), tmp_path / "m", weights_hash="", self_test=(x[0], reference.run(q, x)[0]))
    (tmp_path / "m" / "store.c").write_text(STORE)
    build_alone(tmp_path / "m", compiler, tmp_path / "m.elf", ["-Wl,-u,store_value"])
    part = core("cortex-m4")
    program = read_elf(tmp_path / "m.elf", part)
    machine = Machine(program, part)
    for output, wanted in zip(ALL, read_out(q, ALL), strict=True):
        machine.write(RAM_ORIGIN, output.tobytes())
        machine.call(program.address("store_value"), RAM_ORIGIN, RAM_ORIGIN + 16)
        assert machine.read(RAM_ORIGIN + 16, 2) == wanted.tobytes()


def test_the_folder_says_what_it_reads_and_answers(tmp_path: Path) -> None:
    q = at(0.008, -7)
    c.write(q, uniform(q.graph), tmp_path, weights_hash="f00d", signals=SIGNALS)
    readme, header = (tmp_path / "README.md").read_text(), (tmp_path / "model.h").read_text()
    for text in ("A regression", "64 samples x 4 channels", "32 a second (2 s)", "ppg, acc_x, acc_y, acc_z", SIGNALS.prepared):
        assert text in readme
    assert "heart rate, BPM" in readme and "One step of the output is 0.72 BPM" in readme and "prepared as the table says" in readme
    assert "probabilities" not in readme + header and "logits" not in readme + header and "@" not in readme
    assert '#define HWNAS_MODEL_VALUE_UNIT "BPM"' in header and "#define HWNAS_MODEL_VALUE_OFFSET 7864320" in header
    assert not (tmp_path / "probabilities.c").exists() and (tmp_path / "value.c").is_file()


def test_a_classifier_has_no_value_and_an_export_over_it_leaves_nothing_of_it(tmp_path: Path) -> None:
    q = student()
    c.write(replace(q, labels=("af",)), uniform(q.graph), tmp_path, weights_hash="", signals=replace(SIGNALS, prepared=""))
    assert "VALUE" not in (tmp_path / "model.h").read_text() and (tmp_path / "probabilities.c").is_file()
    assert not (tmp_path / "value.c").exists() and "prepared" not in (tmp_path / "README.md").read_text()
    c.write(q, uniform(q.graph), tmp_path, weights_hash="")
    assert (tmp_path / "value.c").is_file() and not (tmp_path / "probabilities.c").exists()


def test_the_lines_of_the_readme_compile_and_give_the_value(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    q = student()
    c.write(q, uniform(q.graph), tmp_path / "model", weights_hash="")
    listed = re.search(r"```c\n(.*?)```", (tmp_path / "model" / "README.md").read_text(), re.DOTALL)
    assert listed
    declarations, calls = listed[1].split("/* When `samples` is full: */\n")
    flat = np.zeros((1, 64, 4), np.int8)
    wanted = int(read_out(q, reference.run(q, flat))[0])
    (tmp_path / "main.c").write_text(f"{declarations}int main(void)\n{{\n{calls}    return value != {wanted};\n}}\n")
    command = ["gcc", "-std=c99", "-Wall", "-Wno-type-limits", "-I", "model", "main.c"]
    subprocess.run([*command, *(str(p) for p in sorted((tmp_path / "model").rglob("*.c")))], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "a.out")], check=False).returncode == 0


def test_a_step_that_cannot_be_read_out_leaves_nothing(tmp_path: Path) -> None:
    q = at(0.8, 0)
    with pytest.raises(QuantizationError, match="one step of the output is 72 BPM"):
        c.write(q, uniform(q.graph), tmp_path / "m", weights_hash="")
    assert not (tmp_path / "m").exists()


def test_tflite_and_onnx_give_the_value_and_say_what_it_is(tmp_path: Path) -> None:
    q = student()
    x = windows(q)
    written = tflite.write(q, tmp_path / "m.tflite", x), onnx.write(q, tmp_path / "m.onnx", x)
    assert all(found.share_same_class is None and found.largest_step <= 1 for found in written)
    expected = reference.run(q, x)
    for outputs in (run_tflite(tmp_path / "m.tflite", x, q=q), run_onnx(tmp_path / "m.onnx", x, q=q)):
        assert np.abs(outputs.astype(int) - expected).max() <= 1
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    said = "heart rate in BPM = 120 + 90 * output"
    assert [o.name for o in session.get_outputs()] == ["output"] and said in session.get_modelmeta().description
    (detail,) = Interpreter(str(tmp_path / "m.tflite")).get_output_details()
    assert detail["name"] == "output" and list(detail["shape"]) == [1, 1]
    assert said.encode() in (tmp_path / "m.tflite").read_bytes()


def test_a_coreml_package_gives_the_value_in_its_unit(tmp_path: Path) -> None:
    tools: Any = pytest.importorskip("coremltools", reason="pip install 'hwnas[apple]'")
    from hwnas.export import coreml

    q = student()
    x = windows(q, 4)
    found = coreml.write(q, tmp_path / "m.mlpackage", x, {"task": "heart_rate"})
    assert (found.unit, found.share_other_label, found.largest_probability_difference) == ("BPM", None, None)
    assert found.largest_difference is not None and found.largest_difference <= 90 * 3 * q.output.scale
    spec = tools.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True).get_spec()
    assert [o.name for o in spec.description.output] == ["output", "value"]
    assert spec.description.output[1].shortDescription == "heart rate in BPM = 120 + 90 * output"
    facts = dict(spec.description.metadata.userDefined)
    exact = bpm.from_output(real_outputs(q, reference.run(q, x[:1]))[:, 0])[0]
    assert abs(float(facts["check_value"]) - exact) <= found.largest_difference + 1e-3 and "check_probabilities" not in facts
    assert json.dumps(facts)


# Classes of a value: the last node is a convolution, whose positions are the classes.


def bands(count: int, scale: float = 0.1, point: int = -20) -> QuantGraph:
    """Four modalities, `count` filters of each, a logit for each filter; its integers are arbitrary."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(count, 5, 2), builder.add(Split(), builder.add(Input(4, 64))))
    x = builder.add(Transpose(), builder.add(AvgPool1d(32, 1), x))
    builder.add(Conv1d(1, 3, relu=False), builder.add(Conv1d(6, 3), x))
    q = arbitrary(builder.build(), np.random.default_rng(count))
    return replace(q, labels=bpm.names(count), quants=(*q.quants[:-1], Quant(float(np.float32(scale)), point)))


def trained_student() -> QuantGraph:
    return quantize(trained_bands(), paced(400, 0).x, PACE.answers(36))


def logits(count: int, seed: int = 0) -> Int8:
    """Random outputs (N, K): of the whole range, near each other, all alike, one far above the rest."""
    rng = np.random.default_rng(seed)
    wide, near = rng.integers(-128, 128, (100, count)), rng.integers(90, 128, (50, count))
    peaks = np.where(np.eye(count, dtype=bool), 127, -128)
    return np.concatenate([wide, near, np.full((1, count), -128), np.full((1, count), 127), peaks]).astype(np.int8)


def host(q: QuantGraph, folder: Path) -> ctypes.CDLL:
    c.write(q, uniform(q.graph), folder, weights_hash="")
    build_host(folder, folder / "model.so")
    model = ctypes.CDLL(str(folder / "model.so"))
    model.hwnas_model_value.restype = ctypes.c_uint16
    return model


def at_address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize(("count", "scale"), [(36, 0.064), (60, 0.25), (60, 2.0**-20), (2, 0.01), (180, 2.0**-20), (90, 3.0)])
def test_values_of_classes_in_c_are_values_in_python(count: int, scale: float, tmp_path: Path) -> None:
    """With the probabilities of the classes, from the same table."""
    q = bands(count, scale)
    model, outputs, found = host(q, tmp_path), logits(count), np.zeros(count, np.uint8)
    values = [model.hwnas_model_value(at_address(output)) for output in outputs]
    np.testing.assert_array_equal(values, read_out(q, outputs))
    for output, wanted in zip(outputs, probabilities(q, outputs), strict=True):
        model.hwnas_model_probabilities(at_address(output), at_address(found))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "zig for cortex-m4"])
def test_values_of_classes_on_cortex_m4(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(COMPILERS[compiler].command[0]):
        pytest.skip(f"{compiler} is not installed")
    q = bands(60)
    x = windows(q, 1)
    c.write(q, uniform(q.graph), tmp_path / "m", weights_hash="", self_test=(x[0], reference.run(q, x)[0]))
    (tmp_path / "m" / "store.c").write_text(STORE)
    build_alone(tmp_path / "m", compiler, tmp_path / "m.elf", ["-Wl,-u,store_value"])
    part, outputs = core("cortex-m4"), logits(60)[::3]
    program = read_elf(tmp_path / "m.elf", part)
    machine = Machine(program, part)
    for output, wanted in zip(outputs, read_out(q, outputs), strict=True):
        machine.write(RAM_ORIGIN, output.tobytes())
        machine.call(program.address("store_value"), RAM_ORIGIN, RAM_ORIGIN + 64)
        assert machine.read(RAM_ORIGIN + 64, 2) == wanted.tobytes()


def test_a_trained_student_of_classes_from_window_to_value_in_c(tmp_path: Path) -> None:
    q, test = trained_student(), paced(100, 5)
    model, x = host(q, tmp_path), reference.quantize_input(q, test.x)
    arena, output = np.zeros(100_000, np.uint32), np.zeros(36, np.int8)
    values = []
    for window in np.ascontiguousarray(x):
        model.hwnas_model_run(at_address(window), at_address(output), at_address(arena))
        values.append(model.hwnas_model_value(at_address(output)))
    np.testing.assert_array_equal(values, read_out(q, reference.run(q, x)))
    assert np.abs(np.array(values) / 256 - test.y).mean() < 2.0, "classes are 5 BPM wide, answers are finer"


def test_the_folder_of_classes_says_what_they_are(tmp_path: Path) -> None:
    q = bands(60)
    c.write(q, uniform(q.graph), tmp_path, weights_hash="f00d", signals=SIGNALS)
    readme, header, source = ((tmp_path / name).read_text() for name in ("README.md", "model.h", "value.c"))
    for text in ("A regression", "| outputs | logits of 60 classes of heart rate: 31 to 208 BPM, 3 apart |", "`value.c`", SIGNALS.prepared):
        assert text in readme
    assert "the first at 31 BPM and each next one 3 BPM above it" in readme and "@" not in readme + source
    for name, text in (("LOWEST", 31 * 256), ("WIDTH", 3), ("UNIT", '"BPM"')):
        assert f"#define HWNAS_MODEL_VALUE_{name} {text}\n" in header
    assert '#define HWNAS_MODEL_LABELS "31 bpm,34 bpm,' in header and "VALUE_OFFSET" not in header
    assert not (tmp_path / "probabilities.c").exists()


def test_the_lines_of_the_readme_of_classes_compile_and_give_the_value(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    q = bands(36)
    c.write(q, uniform(q.graph), tmp_path / "model", weights_hash="")
    listed = re.search(r"```c\n(.*?)```", (tmp_path / "model" / "README.md").read_text(), re.DOTALL)
    assert listed
    declarations, calls = listed[1].split("/* When `samples` is full: */\n")
    wanted = int(read_out(q, reference.run(q, np.full((1, 64, 4), q.input.zero_point, np.int8)))[0])
    (tmp_path / "main.c").write_text(f"{declarations}int main(void)\n{{\n{calls}    return value != {wanted};\n}}\n")
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", "-std=c99", *warnings, "-c", "model/value.c", "-o", "value.o"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "-I", "model", "main.c", *(str(p) for p in (tmp_path / "model").rglob("*.c"))], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "a.out")], check=False).returncode == 0


def test_tflite_and_onnx_of_classes_answer_rows_of_logits(tmp_path: Path) -> None:
    """(N, K) like a dense head's, in the order of the bands."""
    q = trained_student()
    x = reference.quantize_input(q, paced(40, 5).x)
    written = tflite.write(q, tmp_path / "m.tflite", x), onnx.write(q, tmp_path / "m.onnx", x)
    assert all(found.share_same_class is None and found.unit == "BPM" for found in written)
    assert all(found.largest_difference is not None and found.largest_difference < 0.5 for found in written)
    expected = read_out(q, reference.run(q, x)) / 256
    for outputs in (run_tflite(tmp_path / "m.tflite", x, q=q), run_onnx(tmp_path / "m.onnx", x, q=q)):
        assert np.abs(read_out(q, outputs) / 256 - expected).max() < 0.5
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.get_outputs()
    assert (output.name, output.shape) == ("logits", ["windows", 36])
    assert describe_outputs(q.labels) in session.get_modelmeta().description
    (detail,) = Interpreter(str(tmp_path / "m.tflite")).get_output_details()
    assert detail["name"] == "logits" and list(detail["shape"]) == [1, 36] and list(detail["shape_signature"]) == [-1, 36]
    assert describe_outputs(q.labels).encode() in (tmp_path / "m.tflite").read_bytes()


def test_a_coreml_package_of_classes_gives_probabilities_and_the_value(tmp_path: Path) -> None:
    tools: Any = pytest.importorskip("coremltools", reason="pip install 'hwnas[apple]'")
    from hwnas.export import coreml

    q = trained_student()
    x = reference.quantize_input(q, paced(4, 5).x)
    found = coreml.write(q, tmp_path / "m.mlpackage", x, {"task": "heart_rate"})
    assert found.unit == "BPM" and found.largest_difference is not None and found.largest_difference < 1.0
    spec = tools.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True).get_spec()
    outputs = {o.name: (list(o.type.multiArrayType.shape), o.shortDescription) for o in spec.description.output}
    assert {name: shape for name, (shape, _) in outputs.items()} == {"logits": [1, 36], "probabilities": [1, 36], "value": [1, 1]}
    assert outputs["value"][1] == describe_outputs(q.labels)
    facts = dict(spec.description.metadata.userDefined)
    exact = bpm.expectation(real_outputs(q, reference.run(q, x[:1])))[0]
    assert abs(float(facts["check_value"]) - exact) <= found.largest_difference + 1e-3 and facts["labels"] == ",".join(q.labels)


def test_a_package_needs_an_end_that_it_can_flatten(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="pip install 'hwnas[apple]'")
    from hwnas.export import coreml

    builder = GraphBuilder()
    builder.add(Conv1d(3, 3, relu=False), builder.add(Input(2, 12)))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    with pytest.raises(ExportError, match="ends in 'conv1d' of 3 channels; a CoreML package needs a dense layer or a convolution of one"):
        coreml.write(q, tmp_path / "m.mlpackage", windows(q, 1), {})
