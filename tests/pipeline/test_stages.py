"""What stages say and choose: the line that describes a network, recipes by effort and length, the teacher in front.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_students import quantized_student, random_graph, random_windows

from hwnas import families, space
from hwnas.distill import read
from hwnas.errors import ExportError
from hwnas.export.comparison import Comparison
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, GraphBuilder, Input, Join, Lstm, Shape, Split
from hwnas.pipeline import finishing
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.recipes import full_recipe, qat_recipe, short_recipe, teacher_recipe, views
from hwnas.pipeline.teacher import describe
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.report.architecture import summary
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import TeacherCard
from hwnas.train import FULL, QAT, SHORT, TEACHER, VIEWS, Recipe

NORMAL = RunConfig(profile="cortex-m4-192k")
QUICK = RunConfig(profile="cortex-m4-192k", effort="quick")


def test_summary_of_every_operator() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 4), builder.add(Input(1, 1000)))
    y = builder.add(Conv1d(8), builder.add(DepthwiseConv1d(3), builder.add(Conv1d(16), x)))
    x = builder.add(Add(), x, y)
    x = builder.add(Conv1d(12, 1, 2), builder.add(DepthwiseConv1d(5, dilation=4), builder.add(DepthwiseConv1d(5, 2), x)))
    builder.add(Dense(6), builder.add(GlobalAvgPool(), x))
    assert summary(builder.build()) == "conv7 8 /4 · pw 16 · dw3 · pw 8 · + · dw5 /2 · dw5 x4 · pw 12 /2 · dense 6"


def test_summary_of_modalities_and_recurrence() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 5, 2), builder.add(Split(), builder.add(Input(3, 100))))
    builder.add(Dense(2), builder.add(Lstm(8, last=True), builder.add(Join(), x)))
    assert summary(builder.build()) == "split · conv5 4 /2 · join · lstm 8 · dense 2"


def test_a_format_that_cannot_hold_a_student_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, q = quantized_student(random_graph(np.random.default_rng(0), length=32), 0)
    fine = finishing.FORMATS["tflite"]

    def refuse(q: QuantGraph, path: Path, check: Int8) -> Comparison:
        raise ExportError("node 3 (lstm) is 9 steps from the int8 reference")

    monkeypatch.setattr(finishing, "FORMATS", {"tflite": fine, "onnx": refuse})
    written, lacking = finishing._exports(q, tmp_path, reference.quantize_input(q, random_windows(q.graph, 8, 1)))
    assert lacking == {"onnx": "node 3 (lstm) is 9 steps from the int8 reference"}
    assert (
        list(written) == ["tflite"]
        and written["tflite"]["windows"] == 8
        and written["tflite"]["bytes"] == (tmp_path / "model.tflite").stat().st_size
    )


def test_summary_of_a_candidate() -> None:
    found = space.read("mobilenet1d")
    least = {name: values[0] for name, values in found.choices.items()}
    graph = families.build(found.candidate(least | {"block1_stride": 2, "block2_expansion": 4}), Shape(1, 1000), 2)
    assert summary(graph) == "conv7 4 /4 · dw3 /2 · pw 8 · pw 32 · dw3 · pw 8 · + · dense 2"


def test_normal_recipes_are_the_presets_at_their_length() -> None:
    assert teacher_recipe(NORMAL, 1000) == TEACHER.at_length(1000) == TEACHER
    assert short_recipe(NORMAL, 1000, 3.0) == SHORT.at_temperature(3.0)
    assert full_recipe(NORMAL, 1000, 3.0) == FULL.at_temperature(3.0)
    assert qat_recipe(NORMAL, 1000, 3.0) == QAT.at_temperature(3.0)
    assert views(NORMAL) == VIEWS
    assert (short_recipe(NORMAL, 1000, 2.5).loss.temperature, full_recipe(NORMAL, 1000, 4.0).loss.temperature) == (2.5, 4.0)


@pytest.mark.parametrize("recipe", [short_recipe, full_recipe, qat_recipe])
def test_students_learn_by_the_loss_of_the_run(recipe: Callable[..., Recipe]) -> None:
    """At the teacher's temperature, unless the run names one; the teacher's own training knows nothing of it."""
    run = RunConfig(profile="cortex-m4-192k", distillation="dkd:beta=4+relation")
    assert recipe(run, 1000, 2.5).loss == read("dkd:beta=4+relation", temperature=2.5)
    named = RunConfig(profile="cortex-m4-192k", distillation="soft:temperature=7")
    assert recipe(named, 1000, 2.5).loss.temperature == 7.0
    assert teacher_recipe(run, 1000) == teacher_recipe(NORMAL, 1000)


def test_longer_windows_train_for_as_many_steps() -> None:
    for short, long in (
        (teacher_recipe(NORMAL, 1000), teacher_recipe(NORMAL, 3000)),
        (full_recipe(NORMAL, 1000, 3.0), full_recipe(NORMAL, 3000, 3.0)),
    ):
        assert long.steps(10_000)[1] == pytest.approx(short.steps(10_000)[1], rel=0.05)
        assert long.batch_size * 3000 == pytest.approx(short.batch_size * 1000, rel=0.05)
        assert (long.epochs, long.learning_rate) == (short.epochs, short.learning_rate)


@pytest.mark.parametrize("samples", [1000, 3000])
def test_quick_recipes_differ_in_steps_alone(samples: int) -> None:
    pairs = [
        (teacher_recipe(QUICK, samples), teacher_recipe(NORMAL, samples)),
        (short_recipe(QUICK, samples, 2.0), short_recipe(NORMAL, samples, 2.0)),
        (full_recipe(QUICK, samples, 2.0), full_recipe(NORMAL, samples, 2.0)),
        (qat_recipe(QUICK, samples, 2.0), qat_recipe(NORMAL, samples, 2.0)),
    ]
    for quick, normal in pairs:
        changed = {name for name, value in quick.to_dict().items() if value != normal.to_dict()[name]}
        assert changed == {"epochs", "windows_per_epoch"}
        assert (quick.epochs, quick.windows_per_epoch) == (2, 256)
        assert quick.steps(10_000)[1] * 10 < normal.steps(10_000)[1]
    assert views(QUICK) == 1


@pytest.mark.parametrize("source", ["real", "synthetic"])
def test_the_teacher_in_front_json_says_what_its_figures_are(source: str) -> None:
    rng = np.random.default_rng(0)
    logits, y = 3 * rng.normal(size=(60, 6)), rng.integers(0, 6, 60)
    card = TeacherCard(
        id="t0",
        name="resnet18_1d",
        parameters=12,
        in_channels=1,
        labels=tuple("abcdef"),
        data="d0",
        source=source,
        recipe={},
        seed=0,
        calibration=calibrate(logits, y, logits),
        metrics={"validation": {"af_auc": 0.9}},
    )
    told = describe(card, {"af_auc": 0.8})
    assert told["metrics"] == {"validation": {"af_auc": 0.9}, "test": {"af_auc": 0.8}}
    assert told["provenance"] == f"float32 on the host, {source} data"
    assert (told["id"], told["name"], told["parameters"]) == ("t0", "resnet18_1d", 12)
    assert told["calibration"]["temperature"] == card.calibration.temperature
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert "test" not in card.metrics
