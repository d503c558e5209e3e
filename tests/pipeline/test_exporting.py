"""Exporting and evaluating finished students of every family: what is written, how it is verified, and that failures leave no trace."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from made_tables import made_row, made_table
from safetensors.numpy import load_file, save_file
from shipped_students import FAMILIES, family_graph, listing, ship, windows_of

from hwnas.errors import CostError, ExportError, FirmwareError, HwnasError, MissingEntryError, RunError, UsageError
from hwnas.export import floats
from hwnas.export import onnx as onnx_export
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.firmware.cortex_m4 import CORTEX_M4
from hwnas.firmware.emulator import emulate
from hwnas.hardware import profile as profiles
from hwnas.hardware.table import LookupTable, Row
from hwnas.hardware.table import read as read_table
from hwnas.pipeline import exporting
from hwnas.pipeline.evaluate import RUNTIMES, evaluate_student
from hwnas.pipeline.exporting import export_student
from hwnas.pipeline.profiling import Wanted, missing, shapes_of
from hwnas.pipeline.progress import Progress, Silent
from hwnas.quantize import reference, storage
from hwnas.tasks import TASKS, Windows

PLAIN = ("tflite", "onnx", "c", "float")
HAVE_COREML = importlib.util.find_spec("coremltools") is not None


@pytest.fixture(autouse=True)
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are verified on few windows."""
    monkeypatch.setattr(exporting, "WINDOWS", 24)
    monkeypatch.setattr(exporting, "SUBJECTS", 4)
    monkeypatch.setattr(exporting, "COREML_WINDOWS", 3)


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`students(family)` -> its folder, made once and only read."""
    made: dict[str, Path] = {}

    def find(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp("students") / family
            ship(made[family], family)
        return made[family]

    return find


@pytest.fixture
def student(students: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the plain student, to be damaged."""
    return Path(shutil.copytree(students("mobilenet"), tmp_path / "student"))


def export(folder: Path, *formats: str, out: Path | None = None, profile: str | None = None, self_test: bool = True) -> dict[str, Any]:
    return export_student(folder, formats, out, profile=profile, self_test=self_test, progress=Silent())


def refused(error: type[HwnasError], match: str, folder: Path, *formats: str, **options: Any) -> None:
    """The export fails so, and nothing in the folder or around it changes."""
    before = listing(folder.parent)
    with pytest.raises(error, match=match):
        export(folder, *formats, **options)
    assert listing(folder.parent) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_format(family: str, students: Callable[[str], Path], tmp_path: Path) -> None:
    folder, out = students(family), tmp_path / "deep" / "out"
    q, before = storage.load(folder), listing(folder)
    result = export(folder, *PLAIN, out=out)
    assert listing(folder) == before
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["student"] == q.graph.hash and result["verified_on"]["source"] == "synthetic"
    written = [file for found in result["exports"].values() for file in found["files"]]
    assert sorted(written) == sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    for found in result["exports"].values():
        assert found["bytes"] == sum((out / file).stat().st_size for file in found["files"])
        assert found["comparison"]["windows"] == 24
    x = windows_of(q, 8)
    integers = reference.quantize_input(q, x)
    expected = reference.run(q, integers)
    for runtime in (run_tflite, run_onnx):
        name = "model.tflite" if runtime is run_tflite else "model.onnx"
        assert np.abs(runtime(out / name, integers).astype(int) - expected).max() <= 12
    again = floats.load(out)
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(x))[0], floats.load(folder)(torch.from_numpy(x))[0])
    memory = profiles.read("cortex-m4-192k").memory
    assert np.array_equal(emulate(out / "firmware", CORTEX_M4, memory).run(integers), expected)
    assert result["exports"]["c"]["comparison"]["windows_differing"] == 0


@pytest.mark.skipif(not HAVE_COREML, reason="coremltools is not installed: pip install 'hwnas[apple]'")
def test_coreml_beside_the_others(students: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second time it replaces the package
        result = export(students("mobilenet"), "coreml", "float", out=out)
        assert sorted(p.name for p in out.iterdir()) == ["graph.json", "model.mlpackage", "weights.safetensors"]
    found = result["exports"]["coreml"]
    assert "not run" in found["provenance"] and found["comparison"]["windows"] == exporting.COREML_WINDOWS
    assert "windows" not in result["verified_on"]  # each format has its own number


def test_the_c_form_is_the_one_that_was_shipped(student: Path, tmp_path: Path) -> None:
    export(student, "c", out=tmp_path / "out", self_test=False)
    for name in ("model.c", "depthwise.c"):
        assert (tmp_path / "out" / "firmware" / name).read_bytes() == (student / "firmware" / name).read_bytes()
    assert not (tmp_path / "out" / "firmware" / "self_test.c").exists()


def test_a_self_test_goes_in_and_out_and_other_files_stay(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(student, "c", out=out)
    assert (out / "firmware" / "self_test.c").is_file()
    (out / "firmware" / "CMakeLists.txt").write_text("mine")
    result = export(student, "c", out=out, self_test=False)
    assert result["exports"]["c"]["self_test"] is False
    assert not (out / "firmware" / "self_test.c").exists()
    assert (out / "firmware" / "CMakeLists.txt").read_text() == "mine"


def test_another_profile_places_the_c_anew(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "read_table", lambda _: made_table(shapes_of(family_graph("mobilenet"))))
    monkeypatch.setattr(exporting, "check_kernels", lambda table, profile: None)
    result = export(student, "c", out=tmp_path / "out", profile="nrf52840")["exports"]["c"]
    shipped = export(student, "c", out=tmp_path / "out")["exports"]["c"]
    assert (result["profile"], shipped["profile"]) == ("nrf52840", "cortex-m4-192k")
    assert shipped["weights"] == json.loads((student / "card.json").read_text())["deployment"]["weights"] != result["weights"]
    assert result["predicted"]["provenance"].startswith("predicted") and "predicted" not in shipped


def test_profiles_that_do_not_fit_are_refused(student: Path) -> None:
    refused(UsageError, "add --format c", student, "tflite", profile="nrf52840")
    refused(UsageError, "Did you mean 'nrf52840'", student, "c", profile="nrf5284")
    refused(UsageError, "bounds only", student, "c", profile="apple-watch-s9")


@pytest.mark.parametrize("profile", ["cortex-m4-192k", "watch-a53"])
def test_what_the_table_lacks_is_profiled(profile: str, student: Path, tmp_path: Path) -> None:
    """Windows of 5 s are none of those that the shipped tables cover."""
    assert missing(read_table(profiles.read(profile).table_path), shapes_of(family_graph("mobilenet")))
    found = export(student, "c", out=tmp_path / "out", profile=profile)["exports"]["c"]
    assert found["profile"] == profile and found["predicted"]["provenance"].startswith("predicted")
    if profile == "cortex-m4-192k":  # its flash has no wait states
        assert found["predicted"]["cycles"] == found["emulated"]["zero_wait_cycles"]
        assert found["predicted"]["ram_bytes"] == found["emulated"]["ram_bytes"]


def test_only_what_the_table_lacks_is_profiled(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, asked = sorted(shapes_of(family_graph("mobilenet"))), []

    def extended(table: LookupTable, absent: set[Wanted], progress: Progress) -> LookupTable:
        asked.append(absent)
        return table.with_rows(made_row(*wanted) for wanted in absent)

    monkeypatch.setattr(exporting, "check_kernels", lambda table, profile: None)
    monkeypatch.setattr(exporting, "extended", extended)
    for known in (shapes[2:], shapes):
        monkeypatch.setattr(exporting, "read_table", lambda _, known=known: made_table(known))
        export(student, "c", out=tmp_path / "out", profile="nrf52840")
    assert asked == [set(shapes[:2])]


def test_operators_that_fail_in_every_layout_are_refused(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [Row.marked(key, length, "failed: no kernel") for key, length in shapes_of(family_graph("mobilenet"))]
    monkeypatch.setattr(exporting, "read_table", lambda _: made_table(set()).with_rows(failed))
    monkeypatch.setattr(exporting, "check_kernels", lambda table, profile: None)
    refused(MissingEntryError, "no figure for .*: failed: no kernel", student, "c", profile="nrf52840")


def test_tables_of_other_kernels_or_cores_are_refused(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "read_table", lambda _: made_table(shapes_of(family_graph("mobilenet"))))
    refused(CostError, "profiled with kernels 0000000000000000, .*`hwnas profile --profile nrf52840`", student, "c", profile="nrf52840")
    refused(CostError, "is of core cortex-m4, the profile of core cortex-a53", student, "c", profile="watch-a53")


def test_a_format_that_fails_takes_the_others_with_it(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ExportError("node 3 (conv1d) is 7 steps away")

    export(student, "tflite", "float", out=tmp_path / "out")
    monkeypatch.setattr(exporting.onnx, "write", fails)
    refused(ExportError, "7 steps", student, "float", "tflite", "c", "onnx", out=tmp_path / "out")
    refused(ExportError, "7 steps", student, "float", "tflite", "c", "onnx", out=tmp_path / "fresh" / "folder")


def test_a_wrong_c_form_is_not_written(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        exporting, "reference", SimpleNamespace(run=lambda q, x: reference.run(q, x) ^ 1, quantize_input=reference.quantize_input)
    )
    refused(FirmwareError, "differs from the int8 reference on 24 of 24 windows", student, "c")


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_move_that_breaks_off_is_undone(
    failing: int, student: Path, students: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files take the places of three others: six moves, each of which may fail."""
    out, calls = tmp_path / "out", 0
    export(students("resnet"), "float", "tflite", out=out)

    def full(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        os.replace(source, target)

    monkeypatch.setattr(exporting, "os", SimpleNamespace(replace=full, path=os.path))
    refused(RunError, "No space left", student, "float", "tflite", out=out)
    assert calls >= failing
    monkeypatch.undo()
    export(student, "float", "tflite", out=out)
    assert floats.load(out).graph == family_graph("mobilenet")


def test_what_is_not_ours_is_left_alone(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "firmware").mkdir(parents=True)
    (out / "firmware" / "main.c").write_text("mine")
    refused(UsageError, "firmware exists and was not written by hwnas", student, "c", "tflite", out=out)
    (out / "model.tflite").mkdir()
    refused(UsageError, "model.tflite exists and was not written", student, "tflite", out=out)
    (tmp_path / "file").write_text("mine")
    refused(UsageError, "no folder", student, "tflite", out=tmp_path / "file")
    refused(RunError, "cannot write", student, "tflite", out=tmp_path / "file" / "below")


FILES = [name for wanted in exporting.FORMATS.values() for name in wanted.writes if "." in name and not name.endswith(".mlpackage")]
FORMAT_OF = {name: form for form, wanted in exporting.FORMATS.items() for name in wanted.writes}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_ours_are_left_alone(name: str, student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for content in (b"", b"mine", b"[]", b"\xff" * 40, b'{"nodes": []}', b"hwnas-sha256:", b"\x08" + b"\0" * 7 + b'{"a":1} '):
        (out / name).write_bytes(content)
        refused(UsageError, f"{name} exists and was not written by hwnas", student, FORMAT_OF[name], out=out)
    (out / name).unlink()
    save_file({"weight": np.zeros(3, np.float32)}, out / name, {"format": "pt"})
    refused(UsageError, f"{name} exists and was not written by hwnas", student, FORMAT_OF[name], out=out)
    (out / name).unlink()
    (out / name).symlink_to(tmp_path / "nowhere")
    refused(UsageError, f"{name} exists and was not written by hwnas", student, FORMAT_OF[name], out=out)


@pytest.mark.parametrize(("name", "inner"), [("firmware", "model.h"), ("model.mlpackage", "Manifest.json")])
def test_folders_that_are_not_ours_are_left_alone(name: str, inner: str, student: Path, tmp_path: Path) -> None:
    """They hold what any such folder holds."""
    if name == "model.mlpackage" and not HAVE_COREML:
        pytest.skip("coremltools is not installed: pip install 'hwnas[apple]'")
    place = tmp_path / "out" / name
    (place / "Data" / "com.apple.CoreML").mkdir(parents=True)
    (place / inner).write_text("{}")
    (place / "Data" / "com.apple.CoreML" / "model.mlmodel").write_text("mine")
    refused(UsageError, f"{name} exists and was not written by hwnas", student, FORMAT_OF[name], out=tmp_path / "out")


def test_an_export_takes_the_place_of_another_students(student: Path, students: Callable[[str], Path], tmp_path: Path) -> None:
    for folder in (students("resnet"), student):
        export(folder, *PLAIN, out=tmp_path / "out")
    assert floats.load(tmp_path / "out").graph == family_graph("mobilenet")


def test_no_export_goes_into_a_students_own_folder(student: Path, students: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(student, target_is_directory=True)
    other = Path(shutil.copytree(students("resnet"), tmp_path / "other"))
    for out in (student, student / "firmware" / "..", tmp_path / "link", other):
        for formats in (PLAIN, ("c",)):
            refused(UsageError, "own folder", student, *formats, out=out)
    refused(UsageError, "own folder", student, "c", out=student, profile="nrf52840")


def test_the_default_place_is_beside_the_students_folder(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(student)
    place = tmp_path / "student-export"
    assert export(student, "float")["out"] == str(place)
    assert floats.load(place).graph == family_graph("mobilenet") and listing(student) == before
    monkeypatch.chdir(student)
    assert export(Path(), "float")["out"] == str(place)


def test_the_default_place_in_a_run_is_apart_from_its_students(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run deletes the folders of students that it no longer chooses."""
    home = tmp_path / "run" / "students" / "0123456789ab"
    shutil.copytree(student, home)
    monkeypatch.chdir(home.parent)
    for given in (home, Path(home.name)):
        assert export(given, "float")["out"] == str(tmp_path / "run" / "exports" / home.name)
    shutil.rmtree(home.parent)
    assert floats.load(tmp_path / "run" / "exports" / home.name).graph == family_graph("mobilenet")


@pytest.mark.parametrize("error", [onnx.checker.ValidationError, onnx.shape_inference.InferenceError])
def test_an_onnx_form_that_is_not_valid(error: type[Exception], student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error("Field 'name' of 'node' is required")

    monkeypatch.setattr(onnx_export.onnx.checker, "check_model", fails)
    refused(ExportError, "ONNX form of student .* is not valid: Field 'name'", student, "float", "onnx")


@pytest.mark.parametrize("field", ["task", "labels", "weights_hash", "deployment", "memory", "core"])
def test_cards_that_lack_something_or_lie(field: str, student: Path) -> None:
    card = json.loads((student / "card.json").read_text())
    (student / "card.json").write_text(json.dumps({k: v for k, v in card.items() if k != field}))
    refused(RunError, f"card.json.*'{field}' is missing", student, "tflite")
    (student / "card.json").write_text(json.dumps(card | {field: 3}))
    refused(RunError, f"card.json.*'{field}'", student, "tflite")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"id": "0123456789ab"}, RunError, "card.json is of student 0123456789ab"),
        ({"weights_hash": "0" * 16}, RunError, "of the weights 0000000000000000"),
        ({"window_s": 6.0}, RunError, "reads 1 x 500 samples .* card.json says 1 x 600"),
        ({"channels": 2}, RunError, "card.json says 2 x 500"),
        ({"labels": ["a", "b"]}, RunError, "gives 6 outputs"),
        ({"deployment": {"weights": ["none", "int8"]}}, RunError, "layouts of 2 nodes"),
        ({"deployment": {"weights": ["none"] * len(family_graph("mobilenet").nodes)}}, RunError, r"node 1 \(conv1d\) has layout 'none'"),
        ({"core": "cortex-m5"}, UsageError, "unknown core 'cortex-m5'"),
        ({"task": "rythm"}, UsageError, "unknown task"),
    ],
)
def test_cards_of_something_else(change: dict[str, Any], error: type[HwnasError], match: str, student: Path) -> None:
    card = json.loads((student / "card.json").read_text())
    (student / "card.json").write_text(json.dumps(card | change))
    refused(error, match, student, "c")


def test_float_weights_that_are_broken(student: Path, students: Callable[[str], Path]) -> None:
    path = student / floats.WEIGHTS_FILE
    original = path.read_bytes()
    tensors = load_file(path)
    for value in (np.nan, np.inf):
        tensors["nodes.1.conv.weight"].flat[0] = value
        save_file(tensors, path, _metadata(original))
        refused(ExportError, r"NaN or infinity in 'nodes\.1\.conv\.weight'", student, "float")
    path.write_bytes((students("resnet") / floats.WEIGHTS_FILE).read_bytes())
    refused(ExportError, "belong to different students", student, "float")
    path.write_bytes(original[:-7])
    refused(ExportError, "damaged", student, "float")
    path.unlink()
    refused(ExportError, "No such file", student, "float")


def _metadata(content: bytes) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return found


@pytest.fixture
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator makes few windows where evaluation names no number."""
    from hwnas.tasks.synthetic import generator

    generate = generator.generate
    monkeypatch.setattr(generator, "generate", lambda **a: generate(**{**a, "subjects": 12, "windows": 60}))


@pytest.mark.parametrize("family", ["mobilenet", "resnet", "lstm"])
def test_evaluation_in_every_runtime(family: str, students: Callable[[str], Path], few_windows: None) -> None:
    results = {name: evaluate_student(students(family), None, runtime=name, seed=3, progress=Silent()) for name in RUNTIMES}
    for name, result in results.items():
        assert result["windows"] == 60 and result["source"] == "synthetic"
        assert result["weights"] == ("float32" if name == "float" else "int8")
        assert result["metrics"].keys() == results["reference"]["metrics"].keys()
        assert result["metrics"]["accuracy"] == pytest.approx(results["reference"]["metrics"]["accuracy"], abs=0.1)
    assert results["emulator"]["metrics"] == results["reference"]["metrics"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_evaluation_of_several_channels(
    runtime: str, students: Callable[[str], Path], few_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task has several signals yet; the windows of one are made of one signal, moved in time."""
    load = type(TASKS["rhythm"]).load

    def several(self: Any, *arguments: Any, **options: Any) -> Windows:
        windows = load(self, *arguments, **options)
        return replace(windows, x=np.concatenate([np.roll(windows.x, s, axis=2) for s in (0, 7, 20)], axis=1))

    with pytest.raises(HwnasError, match="1 channels, the student reads 3"):
        evaluate_student(students("modalities"), None, runtime=runtime, seed=3, progress=Silent())
    monkeypatch.setattr(type(TASKS["rhythm"]), "load", several)
    result = evaluate_student(students("modalities"), None, runtime=runtime, seed=3, progress=Silent())
    assert 0 <= result["metrics"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        ("tflite", "model.tflite"),
        ("tflite-xnnpack", "model.tflite"),
        ("onnx", "model.onnx"),
        ("emulator", "firmware/model.c"),
        ("float", "weights.safetensors"),
        ("reference", "int8.safetensors"),
        ("reference", "graph.json"),
        ("float", "graph.json"),
        ("reference", "card.json"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "edited"])
def test_evaluation_of_damaged_files(runtime: str, name: str, damage: str, student: Path, few_windows: None) -> None:
    path = student / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "edited":
        path.write_bytes(content.replace(b"1", b"7", 40) if content.isascii() else content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    with pytest.raises(HwnasError, match=Path(name).parts[0]):
        evaluate_student(student, None, runtime=runtime, seed=3, progress=Silent())


@pytest.mark.parametrize(
    ("runtime", "name"), [("tflite", "model.tflite"), ("onnx", "model.onnx"), ("emulator", "firmware"), ("float", "weights.safetensors")]
)
def test_evaluation_of_files_of_another_student(
    runtime: str, name: str, student: Path, students: Callable[[str], Path], few_windows: None
) -> None:
    """They are whole, read the same windows, and are not what the card describes."""
    if name == "firmware":
        shutil.rmtree(student / name)
        shutil.copytree(students("resnet") / name, student / name)
    else:
        (student / name).write_bytes((students("resnet") / name).read_bytes())
    with pytest.raises(HwnasError, match=f"{name}.* (student|other weights)"):
        evaluate_student(student, None, runtime=runtime, seed=3, progress=Silent())
