"""A student of one value in every form: the read-out in C bit by bit, and what files and READMEs say of it."""

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
from random_students import quantized_student, random_windows
from tflite_runtime.interpreter import Interpreter

from hwnas.errors import QuantizationError
from hwnas.export import c, onnx, tflite
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.firmware.build import build_host
from hwnas.firmware.cores import core
from hwnas.firmware.machine import Machine, read_elf
from hwnas.firmware.self_test import COMPILERS, RAM_ORIGIN, build_alone
from hwnas.graph import Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, Join, Split
from hwnas.hardware.deployment import uniform
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import read_out
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
