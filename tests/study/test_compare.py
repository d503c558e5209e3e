"""The figures of a comparison from made outputs whose differences are known, how they are shown, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import settings, small, student_file

from hwnas.errors import ConfigError, UsageError
from hwnas.pipeline.progress import Silent
from hwnas.study import compare as study
from hwnas.study import folds as folds_of
from hwnas.study import render
from hwnas.study.arms import CONTROL, TEACHER, Result, Training, plan
from hwnas.study.compare import compare
from hwnas.study.folds import StudyConfig, read_folds
from hwnas.study.student import architecture
from hwnas.tasks import TASKS, Windows, bpm

ERRORS_BPM = {TEACHER: 2.0, CONTROL: 10.0, "soft": 6.0, "dkd": 12.0}


def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, spread: float = 0.0) -> dict[str, Any]:
    """Figures of heart rates that each arm misses by as much as `ERRORS_BPM` says, give or take a seed's part and a subject's `spread`."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"s{i:02d}" for i in range(12)], 30)
    y = rng.uniform(70, 110, size=len(names)).astype(np.float32)
    windows = Windows(np.zeros((len(y), 4, 256), np.float32), y, names, 32.0, "real", "made")
    monkeypatch.setattr(folds_of, "load_windows", lambda _: (TASKS["heart_rate"], windows, "made"))
    config = StudyConfig(task="heart_rate", student=str(student_file(tmp_path)), folds=3, seeds=3, recipes=("soft", "dkd"))
    folds = read_folds(config, tmp_path)
    results = {}
    for t in plan(config):
        test = folds[t.fold - 1].test
        own = {s: rng.normal(0, spread) if spread else 0.0 for s in test.subjects}
        error = ERRORS_BPM[t.arm] + (t.seed - 1) * (1 if t.arm == "soft" else 0) + np.array([own[s] for s in test.subject])
        results[t] = Result(bpm.to_output(test.y + error)[:, None], 1.0, {})
    monkeypatch.setattr(study, "_fold", lambda config, fold: {"fold": fold.number, "epochs": 5, "teacher_name": "spectrum"})
    content: dict[str, Any] = study._content(config, architecture(config, folds[0].data), folds, results, ["mind this"])
    return content


def test_known_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(monkeypatch, tmp_path)
    assert content["teacher"] == "spectrum", "who taught, not who would have been trained"
    rows = {arm["arm"]: arm["measures"]["mae_bpm"] for arm in content["arms"]}
    assert [rows[arm]["value"] for arm in (TEACHER, CONTROL, "soft", "dkd")] == pytest.approx([2, 10, 6, 12], abs=1e-4)
    soft = rows["soft"]
    assert soft["folds"] == pytest.approx([6, 6, 6], abs=1e-4) and soft["patients"] == pytest.approx([6] * 12, abs=1e-4)
    assert soft["seeds_se"] == pytest.approx(1 / np.sqrt(3), abs=1e-4), "seeds at 5, 6 and 7"
    gain = soft["difference"]
    assert [gain["value"], gain["low"], gain["high"]] == pytest.approx([-4, -4, -4], abs=1e-4)
    assert gain["seeds_se"] == pytest.approx(1 / np.sqrt(3), abs=1e-4) and gain["folds"] == pytest.approx([-4] * 3, abs=1e-4)
    assert gain["paired"]["patients"] == 12 and gain["paired"]["larger"] == 0 and gain["paired"]["p"] < 0.001
    assert list(soft["share"].values()) == pytest.approx([0.5, 0.5, 0.5], abs=1e-4)
    assert rows["dkd"]["share"]["value"] == pytest.approx(-0.25, abs=1e-4)
    assert "difference" not in rows[CONTROL] and "share" not in rows[TEACHER]
    assert [s["fold"] for s in content["subjects"]] == [1] * 4 + [2] * 4 + [3] * 4
    json.dumps(content, allow_nan=False)


def test_what_may_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(monkeypatch, tmp_path)
    assert content["teacher"] == "spectrum", "who taught, not who would have been trained"
    for name, expected in (("soft", "a gain"), ("dkd", "a loss")):
        (arm,) = (arm for arm in content["arms"] if arm["arm"] == name)
        assert render.verdict(arm["measures"]["mae_bpm"]["difference"], -1) == expected
    noisy = made(monkeypatch, tmp_path, spread=12.0)
    (arm,) = (arm for arm in noisy["arms"] if arm["arm"] == "dkd")
    gain = arm["measures"]["mae_bpm"]["difference"]
    assert gain["low"] < 0 < gain["high"] and render.verdict(gain, -1).startswith("the interval holds zero")
    assert render.verdict({"value": None, "low": None, "high": None}, 1) == "no fold has this measure"


def test_how_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(monkeypatch, tmp_path)
    assert content["teacher"] == "spectrum", "who taught, not who would have been trained"
    text = render.markdown(content)
    for words in ("soft, dkd against no distillation", "made (real), 12 subjects", "float32 on the host, real data", "mind this"):
        assert words in text
    gain = "| 6.0000 ± 0.5774 | -4.0000 ± 0.5774 | -4.0000 to -4.0000 | 50 % (50 to 50) | 0 of 12 |"
    assert f"| soft, float32 {gain}" in text and "`dkd`, float32: a loss" in text
    assert "no claim" not in text and "no claim" in render.markdown({**content, "claims": False})
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1, "every row has every column"
    assert [len(table.columns) for table in render.tables(content)] == [9, 9]
    image = render.png(content)
    assert image.startswith(b"\x89PNG") and image == render.png(content)


def test_what_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    def refused(error: type[Exception], words: str, **changes: Any) -> None:
        with pytest.raises(error, match=words):
            compare(StudyConfig(**changes), tmp_path / "out", jobs=1, resume=False, progress=Silent())
        assert not (tmp_path / "out").exists()

    refused(UsageError, "neither of --student and --parameters")
    refused(UsageError, "both of --student and --parameters", parameters=1000, student="x.yaml")
    refused(UsageError, "x.yaml is not there", student="x.yaml")
    refused(UsageError, "unknown search space", parameters=1000, space="mobilenet")
    refused(UsageError, "unknown task", parameters=1000, task="rythm")
    refused(UsageError, "unknown teacher", parameters=1000, teacher="resnet")
    refused(UsageError, "'hard' learns nothing from a teacher", parameters=1000, recipes=("hard",))
    refused(UsageError, "given twice", parameters=1000, recipes=("soft", "soft"))
    refused(ConfigError, "setting of soft", parameters=1000, recipes=("soft:beta=3",))
    refused(ConfigError, "needs a task of kind regression", parameters=1000, recipes=("pulse",))
    refused(UsageError, "no student of at most 10 parameters", parameters=10, windows=192, subjects=12, window_s=10.0, folds=2)


def test_a_whole_comparison_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves behind leads to the same figures, and other settings or other folders are refused."""
    done = small(monkeypatch)
    config, out = settings(tmp_path, seeds=1), tmp_path / "out"
    compare(config, out, jobs=1, resume=False, progress=Silent())
    names = ("compare.json", "compare.md", "differences.png")
    before = {name: (out / name).read_bytes() for name in names}
    for path in (out / "compare.json", next(out.rglob("*.npz")), out / "teachers/fold-2/card.json"):
        path.unlink()
    done.clear()
    content = compare(config, out, jobs=1, resume=True, progress=Silent())
    assert {name: (out / name).read_bytes() for name in names} == before and len(done) == 1
    assert content == json.loads(before["compare.json"])
    with pytest.raises(UsageError, match="already holds a study; continue it with --resume"):
        compare(config, out, jobs=1, resume=False, progress=Silent())
    with pytest.raises(UsageError, match="cannot be continued with other settings: folds was 2, now 3"):
        compare(settings(tmp_path, seeds=1, folds=3), out, jobs=1, resume=True, progress=Silent())
    grown = compare(settings(tmp_path, seeds=2), out, jobs=1, resume=True, progress=Silent())
    assert grown["seeds"] == 2 and grown["arms"][1]["measures"]["accuracy"]["seeds_se"] is not None
    with pytest.raises(UsageError, match="is no study of hwnas"):
        compare(config, tmp_path, jobs=1, resume=False, progress=Silent())


@pytest.mark.slow
def test_trainings_of_one_patient_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave-one-subject-out: folds of one patient, most without an AUC of their own, still have figures and an interval."""
    small(monkeypatch)
    content = compare(settings(tmp_path, folds=12, seeds=1), tmp_path / "out", jobs=1, resume=False, progress=Silent())
    found = {m["name"]: content["arms"][2]["measures"][m["name"]] for m in content["measures"]}
    gain = found["brier_af"]["difference"]
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["value"] == pytest.approx(np.mean(gain["patients"])), "one patient a fold: the mean of patients"
    assert Training(12, TEACHER, 0).file(tmp_path / "out").exists()


def test_a_share_of_a_doubtful_lead_is_not_shown() -> None:
    assert render._share({"value": -59.9, "low": None, "high": None}) == render._share(None) == render.NONE
    assert render._share({"value": 0.5, "low": 0.1, "high": 0.9}) == "50 % (10 to 90)"
