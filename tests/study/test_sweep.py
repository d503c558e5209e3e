"""A sweep's plan, its figures from outputs of known quality, its recommendation and how it is shown. Nothing is trained here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from hwnas.errors import ConfigError, UsageError
from hwnas.graph import Shape
from hwnas.pipeline.data import RunData
from hwnas.study.advice import figures
from hwnas.study.sizes import Ladder, ladder
from hwnas.study.sweep import NO_TEACHER, SweepConfig, Training, check, plan, recipe_of
from hwnas.study.sweep_render import markdown, png, recommendation, tables
from hwnas.tasks import TASKS
from hwnas.tasks.splits import split_by_subject
from hwnas.teachers.calibration import Calibration, EntropyCheck
from hwnas.teachers.card import TeacherCard

SMALL, LARGE = "resnet18_1d_8", "resnet18_1d"
CONFIG = SweepConfig(task="rhythm-af", teachers=(SMALL, LARGE), seeds=3)


@dataclass(frozen=True)
class Answer:
    """Outputs that stand for a training's result."""

    calibrated: NDArray[np.float32]


@cache
def data() -> RunData:
    task = TASKS["rhythm-af"]
    windows = task.load(None, window_s=10.0, seed=0, subjects=24, windows=960)
    return RunData(task, split_by_subject(windows, 0, task), windows.hash, "signal generator")


@cache
def students() -> Ladder:
    return ladder("mobilenet1d", Shape(1, 1000), 2, 500, 50_000, 6)


def card(name: str) -> TeacherCard:
    """Of a teacher whose size is told by its name."""
    entropy = EntropyCheck(0, 0, None, False, "failed")
    calibration = Calibration(1.2, 0.4, 0.3, 0.1, 0.05, entropy, entropy, 4.0)
    parameters = {SMALL: 24_494, LARGE: 217_210}[name]
    return TeacherCard("t0", name, parameters, 1, ("no", "af"), "d0", "synthetic", {}, 0, calibration, {"validation": {}})


def answer(auc: float, generator: np.random.Generator) -> Answer:
    """Logits of the test windows that tell classes apart as well as `auc` says: normal scores, shifted by sqrt(2) times its quantile."""
    y = np.asarray(data().split.test.y)
    score = generator.standard_normal(len(y)) + np.sqrt(2) * norm.ppf(auc) * (y == 1)
    return Answer(np.stack([np.zeros(len(y)), score], axis=1).astype(np.float32))


def swept(factors: dict[tuple[str, str], float], target: float | None = None, flat: bool = False, profile: str = "cortex-m4-192k") -> Any:
    """The figures of a sweep whose errors are 0.02 + 0.12 (N / 5000)^-0.5 times a factor for each arm."""
    generator = np.random.default_rng(0)
    rungs = students().rungs
    results = {
        arm: [
            (
                rung,
                [answer(1 - factor * (0.1 if flat else 0.02 + 0.06 * (rung.graph.parameters / 5000) ** -0.5), generator) for _ in range(3)],
            )
            for rung in rungs
        ]
        for arm, factor in factors.items()
    }
    teachers = {name: (card(name), answer(0.97, generator)) for name in (SMALL, LARGE)}
    settings = CONFIG.model_copy(update={"target": target, "profile": profile}).model_dump()
    return figures(settings, data(), students(), teachers, results, ["a doubt"])


CONTROL = (NO_TEACHER, "hard")
BETTER = {CONTROL: 1.0, (SMALL, "soft"): 1.02, (LARGE, "soft"): 0.6}


@cache
def content() -> Any:
    return swept(BETTER)


def test_errors_are_those_of_the_outputs() -> None:
    for arm in content()["arms"]:
        factor = BETTER[arm["teacher"] or NO_TEACHER, arm["recipe"]]
        for point in arm["points"]:
            true = factor * (0.02 + 0.06 * (point["parameters"] / 5000) ** -0.5)
            assert point["error"] == pytest.approx(np.mean(point["errors"])) == pytest.approx(true, rel=0.6)
    json.dumps(content(), allow_nan=False)


def test_laws_gain_and_recommendation_are_those_of_the_errors() -> None:
    found = content()
    assert {arm["recipe"]: "refused" in arm["laws"]["parameters"] for arm in found["arms"]} == {"hard": False, "soft": False}
    gains = {arm["teacher"]: arm["against_control"] for arm in found["arms"]}
    assert gains[None] is None
    assert gains[LARGE]["high"] < 1 and gains[LARGE]["ratio"] == pytest.approx(0.6, abs=0.12)
    assert gains[SMALL]["low"] < 1 < gains[SMALL]["high"]
    best = found["recommendation"]
    assert (best["teacher"], best["recipe"], best["basis"]) == (LARGE, "soft", "law")
    assert best["error"]["low"] < best["error"]["value"] <= found["target"]["error"]
    assert best["parameters"] < best["control_parameters"] <= max(s["parameters"] for s in found["students"])
    assert best["cost"]["profile"] == "cortex-m4-192k" and best["cost"]["provenance"].startswith("predicted")
    assert best["cost"]["parameters"] == best["parameters"]


def test_a_lower_target_takes_a_larger_student_and_none_is_made_up() -> None:
    sizes = [swept(BETTER, target)["recommendation"].get("parameters") for target in (0.1, 0.03)]
    assert sizes[0] < sizes[1]
    found = swept(BETTER, 0.002)
    assert found["recommendation"]["student"] is None and all(o["student"] is None for o in found["recommendation"]["offers"])
    said = " ".join(recommendation(found))
    assert "Nothing is recommended: no arm reaches an error of 0.002" in said and "were not tried" in said


def test_without_a_law_the_means_stand_in_and_are_called_so() -> None:
    found = swept({CONTROL: 1.0, (LARGE, "soft"): 0.5}, 0.07, flat=True)
    assert all("refused" in arm["laws"]["parameters"] for arm in found["arms"])
    best = found["recommendation"]
    assert (best["basis"], best["teacher"], best["parameters"]) == ("measured", LARGE, students().rungs[0].graph.parameters)
    assert best["error"]["value"] == best["measured"]
    assert "as measured, no law holds" in " ".join(recommendation(found))


def test_a_cost_that_cannot_be_predicted_is_said() -> None:
    window = Shape(1, 700)
    rungs = ladder("mobilenet1d", window, 2, 500, 50_000, 4)
    whole = data()
    cut = {
        part: replace(getattr(whole.split, part), x=getattr(whole.split, part).x[:, :, :700]) for part in ("train", "validation", "test")
    }
    short = replace(whole, split=type(whole.split)(**cut))
    generator = np.random.default_rng(0)
    results = {CONTROL: [(rung, [answer(0.9, generator)]) for rung in rungs.rungs]}
    teachers = {SMALL: (card(SMALL), answer(0.9, generator))}
    found = figures(CONFIG.model_dump() | {"target": 0.5}, short, rungs, teachers, results, [])
    best = found["recommendation"]
    assert best["cost"] is None and "no row" in best["no_cost"]
    assert f"Its cost is unknown: {best['no_cost']}." in recommendation(found)


def test_two_teachers_have_no_law_over_teachers() -> None:
    (joint,) = content()["joint"]
    assert joint["recipe"] == "soft" and joint["law"]["refused"].startswith("2 different teacher parameters")


def test_the_page_names_everything_once_and_the_figure_is_one() -> None:
    text = markdown(content())
    for word in ("## Recommendation", "a doubt", "synthetic", "predicted", "none: 2 different teacher parameters", "![Error"):
        assert word in text
    for line in text.splitlines():
        assert line.startswith("- ") or line.count("|") in (0, *range(3, 12)), line
    assert png(content()).startswith(b"\x89PNG") and png(content()) == png(content())
    errors, laws = tables(content())
    assert errors.row_count == laws.row_count == 3


def test_hard_is_trained_once_and_first() -> None:
    rungs = students().rungs
    found = plan(CONFIG, rungs)
    assert len(found) == len(set(found)) == (1 + 2 * 2) * 6 * 3
    assert all(t.recipe == "hard" and t.teacher == NO_TEACHER for t in found[:18]) and all(t.teacher for t in found[18:])
    assert len({t.file(Path()) for t in found}) == len(found)
    assert plan(CONFIG.model_copy(update={"recipes": ("soft",)}), rungs)[:18] == found[:18]


def test_the_control_learns_alike_whatever_the_teacher() -> None:
    rung = students().rungs[0]
    hot = replace(card(SMALL), calibration=replace(card(SMALL).calibration, distillation_temperature=7.0))
    control, taught = Training(rung, NO_TEACHER, "hard", 0), Training(rung, SMALL, "soft", 0)
    assert recipe_of(CONFIG, control, card(SMALL), 1000) == recipe_of(CONFIG, control, hot, 1000)
    assert recipe_of(CONFIG, taught, hot, 1000).loss.temperature == 7.0
    same = replace(recipe_of(CONFIG, taught, hot, 1000), loss=recipe_of(CONFIG, control, hot, 1000).loss)
    assert same == recipe_of(CONFIG, control, hot, 1000), "the loss alone differs"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"teachers": ("resnet18",)}, UsageError, "Did you mean 'resnet18_1d'"),
        ({"teachers": (SMALL, SMALL)}, UsageError, "one is given twice"),
        ({"recipes": ("soft", "soft")}, UsageError, "one is given twice"),
        ({"recipes": ("hard:label_smoothing=0.1",)}, UsageError, "learns nothing from a teacher"),
        ({"recipes": ("pulse",)}, ConfigError, "needs a task of kind regression"),
        ({"profile": "cortex-m4-192"}, UsageError, "Did you mean 'cortex-m4-192k'"),
        ({"task": "rythm"}, UsageError, "Did you mean"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_read(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(CONFIG.model_copy(update=changed))
