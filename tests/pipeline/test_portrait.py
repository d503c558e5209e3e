"""Students' portraits: answers against the metrics of the same windows, memory byte by byte, old folders, a student finished for real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_task import PACE, TASK, Speed, banded, graph, paced, trained, trained_pace, windows
from random_networks import random_network
from random_students import warmed_student
from scipy.special import softmax
from shipped_students import FAMILIES, family_graph, ship
from tiny_teachers import shrink

from hwnas import metrics, space
from hwnas.errors import RunError, TrainingError
from hwnas.export import floats
from hwnas.graph import Graph
from hwnas.hardware.deployment import uniform
from hwnas.memory import bound_bytes, plan
from hwnas.pipeline import finishing, portrait
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData, load_data
from hwnas.pipeline.finishing import finish
from hwnas.pipeline.front import score_test
from hwnas.pipeline.portrait import (
    add_test,
    confusion,
    live_bytes,
    portrait_of,
    reliability,
    remove_test,
    tensors,
    value_counts,
    write,
)
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.rundir import RunDirectory
from hwnas.pipeline.teacher import ensure_teacher
from hwnas.pipeline.workshop import Workshop
from hwnas.quantize import reference, storage
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.report.architecture import name_of
from hwnas.student import Student
from hwnas.tasks import bpm
from hwnas.tasks.base import Windows
from hwnas.tasks.splits import Split
from hwnas.teachers import build
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import TeacherCard, content_id, save_teacher

TEACHER_NAME = "resnet18_1d_8"


@dataclass
class Case:
    """A student in a folder, its teacher in another, and what both are asked."""

    folder: Path
    teacher: Path
    data: RunData
    q: QuantGraph
    student: Student

    @property
    def portrait(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "portrait.json").read_text())
        return found

    def int8(self, part: Windows) -> Any:
        return real_outputs(self.q, reference.run(self.q, reference.quantize_input(self.q, part.x)))


def crossed(part: Windows, seed: int) -> Windows:
    """The same windows with another signal for the teacher, of two people, one of whom has slow ones only."""
    rng = np.random.default_rng(seed)
    seen = (0.5 * part.x[:, :, ::-1] + 0.2 * rng.normal(size=part.x.shape)).astype(np.float32)
    alone = (part.y == 0) & (np.arange(len(part)) % 3 == 0)
    return replace(part, teacher_x=seen, subject=np.where(alone, f"slow-{seed}", f"both-{seed}"))


def case(root: Path, task: Speed, student: Student, made: list[Windows]) -> Case:
    """Everything that `write` reads, and the portrait that it writes."""
    data = RunData(task, Split(*made), "d0", "sines")
    answers = task.answers(student.graph.output_shape.elements)
    q = quantize(student, made[0].x, answers)
    folder, teacher = root / "students" / q.graph.hash, root / "teacher"
    floats.save(student, folder)
    storage.save(q, folder)
    module = build(TEACHER_NAME, 1, len(task.labels), seed=1).eval()
    logits = predict(module, made[1].seen_by_teacher)
    found = replace(calibrate(logits, task.classes(made[1].y), logits), temperature=2.5)
    card = TeacherCard(content_id(module, TEACHER_NAME, "d0"), TEACHER_NAME, 1, 1, task.labels, "d0", "synthetic", {}, 0, found, {})
    save_teacher(teacher, module, card)
    write(folder, data, teacher, plan(q.graph))
    return Case(folder, teacher, data, q, student)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield


@pytest.fixture(scope="module")
def speed(tmp_path_factory: pytest.TempPathFactory, _tiny: None) -> Case:
    """Classes, and a teacher of another signal."""
    made = [crossed(windows(count, seed), seed) for seed, count in ((1, 60), (2, 150), (3, 90))]
    return case(tmp_path_factory.mktemp("speed"), TASK, trained(), made)


def beats() -> list[Windows]:
    """Three parts, of four people each."""
    parts = [paced(count, seed) for seed, count in ((1, 80), (2, 120), (3, 70))]
    return [replace(part, subject=np.char.add(part.subject, f"-{number}")) for number, part in enumerate(parts)]


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory, _tiny: None) -> Case:
    """A regression that is answered by one value."""
    return case(tmp_path_factory.mktemp("pace"), PACE, trained_pace(), beats())


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory, _tiny: None) -> Case:
    """A regression that is answered by classes of its value."""
    return case(tmp_path_factory.mktemp("bands"), PACE, warmed_student(banded(), 0), beats())


def test_confusion_is_consistent_with_the_metrics_of_the_same_windows(speed: Case) -> None:
    part = speed.data.split.validation
    logits = {"int8": speed.int8(part), "float": predict(speed.student, part.x)}
    for name, table in speed.portrait["confusion"]["validation"].items():
        assert [sum(row) for row in table] == np.bincount(part.y, minlength=2).tolist()
        if name != "teacher":
            assert np.trace(table) / len(part) == TASK.metrics(logits[name], part)["accuracy"]
    assert speed.portrait["confusion"].keys() == {"validation"} and speed.portrait["classes"] == ["slow", "fast"]
    assert speed.portrait["values"] is None and speed.portrait["not_recorded"] == []


def test_the_teacher_is_asked_about_its_own_signal_once_and_calibrated(speed: Case) -> None:
    part = speed.data.split.validation
    module = build(TEACHER_NAME, 1, 2, seed=1)
    logits = predict(module, part.seen_by_teacher)
    found = speed.portrait
    assert found["confusion"]["validation"]["teacher"] == confusion(logits.argmax(1), TASK.classes(part.y), 2)
    assert found["reliability"]["validation"]["teacher"] == reliability(logits / 2.5, TASK.classes(part.y))
    assert reliability(logits / 2.5, TASK.classes(part.y)) != reliability(logits, TASK.classes(part.y))
    assert not np.allclose(logits, predict(module, part.x))
    kept = {path.name: path.stat().st_mtime_ns for path in speed.teacher.glob("outputs-*")}
    before = (speed.folder / "portrait.json").read_bytes()
    write(speed.folder, speed.data, speed.teacher, plan(speed.q.graph))
    assert kept == {path.name: path.stat().st_mtime_ns for path in speed.teacher.glob("outputs-*")} and len(kept) == 1
    assert (speed.folder / "portrait.json").read_bytes() == before


def test_reliability_is_of_the_outputs_as_they_ship(speed: Case) -> None:
    part = speed.data.split.validation
    p = softmax(speed.int8(part), axis=1)
    rows = speed.portrait["reliability"]["validation"]
    for found in rows.values():
        assert sum(row["windows"] for row in found) == len(part) and len(found) <= 10
    total = sum(row["confidence"] * row["windows"] for row in rows["int8"])
    right = sum(row["accuracy"] * row["windows"] for row in rows["int8"])
    assert total == pytest.approx(p.max(1).sum()) and right == pytest.approx((p.argmax(1) == part.y).sum())


def test_agreement_and_subjects(speed: Case) -> None:
    part, found = speed.data.split.validation, speed.portrait
    same = speed.int8(part).argmax(1) == predict(speed.student, part.x).argmax(1)
    assert found["agreement"]["int8_float"] == same.mean() and found["agreement"]["rule"] == "the same class"
    both = part.take(part.subject == "both-2")
    assert found["by_subject"] == {
        "both-2": {"int8": TASK.metrics(speed.int8(both), both)["auc"], "part": "validation", "windows": len(both)},
        "slow-2": {"int8": None, "part": "validation", "windows": len(part) - len(both)},
    }


@pytest.mark.parametrize("name", ["value", "bands"])
def test_values_of_a_regression(name: str, request: pytest.FixtureRequest) -> None:
    pace: Case = request.getfixturevalue(name)
    part, found = pace.data.split.validation, pace.portrait
    assert found["classes"] is found["confusion"] is found["reliability"] is None and found["not_recorded"] == []
    outputs = {"int8": pace.int8(part), "float": predict(pace.student, part.x)}
    outputs["teacher"] = predict(build(TEACHER_NAME, 1, 180, seed=1), part.x)
    for form, counts in found["values"]["validation"].items():
        truth, estimate, count = np.array(counts).T
        assert count.sum() == len(part) and (truth % 2 == 1).all()
        middle = 2 * np.floor(part.y / 2) + 1
        assert sorted(np.repeat(truth, count)) == sorted(middle)
        mae = (np.abs(truth - estimate) * count).sum() / count.sum()
        assert mae == pytest.approx(PACE.metrics(outputs[form], part)["mae_bpm"], abs=2)
    told = {form: bpm.from_output(real[:, 0]) if real.shape[1] == 1 else bpm.expectation(real) for form, real in outputs.items()}
    for form in ("float", "teacher"):
        assert found["agreement"][f"int8_{form}"] == (np.abs(told["int8"] - told[form]) <= 2).mean() > 0
    assert found["agreement"]["rule"] == "within 2 BPM of each other"
    subject = part.take(part.subject == "s1-1")
    assert found["by_subject"]["s1-1"]["int8"] == PACE.metrics(pace.int8(subject), subject)["mae_bpm"]


@pytest.mark.parametrize("name", ["speed", "value"])
def test_the_test_subjects_come_and_go(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made: Case = request.getfixturevalue(name)
    folder = tmp_path / "student"
    shutil.copytree(made.folder, folder)
    before, test = portrait_of(folder), made.data.split.test
    for _ in range(2):  # a resumed run does it again
        add_test(folder, made.data, made.teacher, made.int8(test))
    after = portrait_of(folder)
    if name == "speed":
        found = after["confusion"]["test"]
        assert found.keys() == {"int8"} and [sum(row) for row in found["int8"]] == np.bincount(test.y, minlength=2).tolist()
        assert np.trace(found["int8"]) / len(test) == TASK.metrics(made.int8(test), test)["accuracy"]
        assert after["by_subject"]["both-3"]["part"] == "test" and after["by_subject"]["slow-3"]["int8"] is None
    else:
        assert sum(count for _, _, count in after["values"]["test"]["int8"]) == len(test)
    assert {k: v for k, v in after.items() if k not in ("confusion", "reliability", "values", "by_subject")} == {
        k: v for k, v in before.items() if k not in ("confusion", "reliability", "values", "by_subject")
    }
    remove_test(folder)
    assert portrait_of(folder) == before


def test_test_figures_are_of_the_frozen_front_alone(speed: Case, tmp_path: Path) -> None:
    """Also of a student of an earlier version that has no portrait yet; one that left the front has none."""
    run = RunDirectory(tmp_path)
    shutil.copytree(speed.teacher, run.teacher)
    for name in ("kept", "old", "fell"):
        shutil.copytree(speed.folder, run.student(name))
    add_test(run.student("fell"), speed.data, speed.teacher, speed.int8(speed.data.split.test))
    (run.student("old") / "portrait.json").unlink()
    held = {"offsets": plan(speed.q.graph).offsets, "scratch": plan(speed.q.graph).scratch, "arena_bytes": plan(speed.q.graph).arena_bytes}
    (run.student("old") / "card.json").write_text(json.dumps({"deployment": {"plan": held}}))
    cards: list[dict[str, Any]] = [{"folder": f"students/{name}", "metrics": {"validation": {}}} for name in ("kept", "old")]
    score_test(run, cards, speed.data)
    test = speed.data.split.test
    for card in cards:
        assert card["metrics"]["test"] == TASK.metrics(speed.int8(test), test)
    kept, old, fell = (portrait_of(run.student(name)) for name in ("kept", "old", "fell"))
    assert kept["confusion"].keys() == old["confusion"].keys() == {"validation", "test"}
    assert {k: v for k, v in kept.items() if k != "files"} == {k: v for k, v in old.items() if k != "files"}
    assert fell == speed.portrait


@pytest.mark.parametrize("family", FAMILIES)
def test_the_most_that_lives_at_once_is_the_arena(family: str) -> None:
    made = family_graph(family)
    placed = tensors(made, plan(made))
    assert max(live_bytes(placed, index) for index in range(1, len(made.nodes))) == plan(made).arena_bytes > 0


def test_live_bytes_of_random_networks_byte_by_byte() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        made = random_network(rng)
        planned = plan(made)
        placed = tensors(made, planned)
        most = 0
        for index, node in enumerate(made.nodes):
            arena = np.zeros(planned.arena_bytes, bool)
            for tensor in placed:
                if tensor.first <= index <= tensor.last:
                    arena[tensor.offset : tensor.offset + tensor.bytes] = True
                    assert tensor.offset + tensor.bytes <= planned.arena_bytes
            assert live_bytes(placed, index) == arena.sum()
            most = max(most, int(arena.sum()))
            held = {t.node for t in placed if t.kind == "output" and t.first <= index <= t.last}
            assert {read for read in node.inputs if planned.offsets[read] >= 0} <= held
        assert bound_bytes(made) <= most <= planned.arena_bytes


def test_operators_add_up_to_the_graph(speed: Case) -> None:
    rows, made = speed.portrait["operators"], speed.q.graph
    assert [row["index"] for row in rows] == list(range(1, len(made.nodes)))
    assert sum(row["macs"] for row in rows) == made.macs and sum(row["parameters"] for row in rows) == made.parameters
    assert [row["name"] for row in rows] == ["conv7 8 /2", "dw5", "pw 8", "+", "mean", "dense 2"]
    assert finishing.summary(made) == "conv7 8 /2 · dw5 · pw 8 · + · dense 2"
    assert [row["inputs"] for row in rows] == [[0], [1], [2], [1, 3], [4], [5]]
    assert rows[-1]["offset"] is None and rows[0]["shape"] == [8, 32]
    assert max(row["live_bytes"] for row in rows) == speed.portrait["arena_bytes"]
    assert {file["path"] for file in speed.portrait["files"]} == {"graph.json", "int8.safetensors", "weights.safetensors"}


def test_a_folder_of_an_earlier_version(tmp_path: Path) -> None:
    q = ship(tmp_path / "student", "resnet", exports=False)
    count = len(q.graph.nodes) - 1
    found = portrait_of(tmp_path / "student")
    assert found["arena_bytes"] == uniform(q.graph).plan.arena_bytes == max(row["live_bytes"] for row in found["operators"])
    assert found["operators"][0]["predicted_cycles"] is None and found["confusion"] is None and found["by_subject"] is None
    assert {"predicted_cycles", "emulated_cycles", "confusion", "reliability", "agreement"} <= set(found["not_recorded"])
    assert not (tmp_path / "student" / "portrait.json").exists()
    rows = [{"kernel": f"k{i}", "weights": "int8", "predicted_cycles": i, "emulated_cycles": i + 1} for i in range(count)]
    (tmp_path / "student" / "bench.json").write_text(json.dumps({"operators": rows}))
    found = portrait_of(tmp_path / "student")
    assert [(row["kernel"], row["emulated_cycles"]) for row in found["operators"]] == [(f"k{i}", i + 1) for i in range(count)]
    assert "predicted_cycles" not in found["not_recorded"]


def test_a_plan_that_is_not_of_this_graph_is_not_shown(tmp_path: Path) -> None:
    ship(tmp_path, "lstm", exports=False)
    card = json.loads((tmp_path / "card.json").read_text())
    placed = card["deployment"]["plan"]
    wrongs: list[Any] = [{}, None, placed | {"arena_bytes": placed["arena_bytes"] - 4}, placed | {"offsets": placed["offsets"][:-1]}]
    for wrong in wrongs:
        (tmp_path / "card.json").write_text(json.dumps(card | {"deployment": {"plan": wrong}}))
        found = portrait_of(tmp_path)
        assert found["arena_bytes"] is None and found["tensors"] == [] and found["not_recorded"][:2] == ["arena_bytes", "tensors"]
        assert {row["live_bytes"] for row in found["operators"]} == {None}


def test_damaged_folders_are_told(tmp_path: Path, speed: Case) -> None:
    ship(tmp_path, "lstm", exports=False)
    (tmp_path / "bench.json").write_text('{"operators": [{}]}')
    with pytest.raises(RunError, match=r"bench\.json: expected figures of 5 operators"):
        portrait_of(tmp_path)
    (tmp_path / "portrait.json").write_text("{")
    with pytest.raises(RunError, match=r"portrait\.json: cannot be read as JSON"):
        portrait_of(tmp_path)
    (tmp_path / "portrait.json").write_text("{}")
    with pytest.raises(RunError, match=r"portrait\.json: damaged, or of another version .* delete it and continue the run with --resume"):
        add_test(tmp_path, speed.data, speed.teacher, speed.int8(speed.data.split.test))
    with pytest.raises(RunError, match=r"nowhere/graph\.json: cannot be read"):
        portrait_of(tmp_path / "nowhere")


def test_confusion_by_hand() -> None:
    assert confusion(np.array([0, 2, 2, 1, 0]), np.array([0, 1, 2, 1, 1]), 3) == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    assert confusion(np.array([0]), np.array([1]), 3) == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_reliability_by_hand_and_against_the_calibration_error() -> None:
    logits = np.log([[0.55, 0.45], [0.58, 0.42], [0.1, 0.9]])
    low, high = reliability(logits, np.array([0, 1, 1]))
    assert low == {"confidence": pytest.approx(0.565), "accuracy": 0.5, "windows": 2}
    assert high == {"confidence": pytest.approx(0.9), "accuracy": 1.0, "windows": 1}
    rng = np.random.default_rng(0)
    logits, y = 2 * rng.normal(size=(500, 4)), rng.integers(0, 4, 500)
    rows = reliability(logits, y, bins=metrics.ECE_BINS)
    gap = sum(abs(row["accuracy"] - row["confidence"]) * row["windows"] for row in rows) / 500
    assert gap == pytest.approx(metrics.ece(logits, y))


def test_value_counts_by_hand() -> None:
    found = value_counts(np.array([60.0, 61.9, 62.0, 60.5]), np.array([59.9, 58.0, 100.0, 61.0]))
    assert found == [[61, 59, 2], [61, 61, 1], [63, 101, 1]]


def test_graphs_of_modalities_and_classes_of_a_value_have_names() -> None:
    made: list[Graph] = [family_graph(family) for family in FAMILIES] + [banded(), graph(lstm=True)]
    names = {name_of(node.op) for each in made for node in each.nodes[1:]}
    assert {"split", "join", "transpose", "max2 /2", "avg4 /4", "avg32", "lstm 7", "dw3 x2", "|", "+", "mean", "dense 6", "pw 1"} <= names


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, _tiny: None) -> Workshop:
    """A run on generated signals whose teacher stands."""
    root = tmp_path_factory.mktemp("run")
    config = RunConfig(
        profile="cortex-m4-192k", effort="quick", subjects=8, windows=80, window_s=10.0, trials=1, students=1, teacher=TEACHER_NAME
    )
    ensure_teacher(config, load_data(config), root / "teacher", Silent())
    return Workshop.open(config, root)


def test_a_finished_student_from_end_to_end(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    least = {name: values[0] for name, values in space.read("mobilenet1d").choices.items()}
    parameters = shop.gate.space.parameters("mobilenet1d", least)
    with monkeypatch.context() as patch:

        def fails(*_: Any) -> None:
            raise TrainingError("no portrait")

        patch.setattr(portrait, "write", fails)
        with pytest.raises(TrainingError, match="no portrait"):
            finish(shop, parameters, 0)
        assert not list(shop.run.root.glob("students/*/card.json")), "a folder with a card is complete"
    card = finish(shop, parameters, 0)
    folder = shop.run.root / card["folder"]
    found, bench = portrait_of(folder), json.loads((folder / "bench.json").read_text())
    part = shop.data.split.validation
    classes = np.bincount(part.y, minlength=6).tolist()
    for name, expected in (("int8", card["metrics"]), ("float", card["metrics_float"])):
        table = found["confusion"]["validation"][name]
        assert [sum(row) for row in table] == classes
        assert np.trace(table) / len(part) == pytest.approx(expected["validation"]["accuracy"])
    assert np.trace(found["confusion"]["validation"]["teacher"]) / len(part) == shop.teacher.metrics["validation"]["accuracy"]
    for row, costed in zip(found["operators"], bench["operators"], strict=True):
        assert {name: row[name] for name in costed} == costed
    assert found["arena_bytes"] == bench["arena_bytes"] == max(row["live_bytes"] for row in found["operators"])
    assert " · ".join(row["name"] for row in found["operators"] if row["name"] != "mean") == card["summary"]
    listed = {file["path"]: file["bytes"] for file in found["files"]}
    assert {"model.tflite", "model.onnx", "firmware/model.c", "bench.json"} <= listed.keys() and "card.json" not in listed
    assert all((folder / path).stat().st_size == size for path, size in listed.items())
    score_test(shop.run, [card], shop.data)
    tested = portrait_of(folder)["confusion"]["test"]["int8"]
    assert np.trace(tested) / len(shop.data.split.test) == pytest.approx(card["metrics"]["test"]["accuracy"])
