"""Gaps between teacher and student: closed forms, and a flag that finds the wrong segments where it should."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from hwnas.study.gap import flag_quality, gaps, table
from hwnas.tasks import TASKS, Windows, bpm

SLEEP, HEART_RATE = TASKS["sleep"], TASKS["heart_rate"]


def nights(count: int = 240, subjects: int = 6) -> Windows:
    y = np.random.default_rng(0).integers(4, size=count)
    names = np.array([f"n{i % subjects}" for i in range(count)])
    x = np.zeros((count, 1, 2), np.float32)
    return Windows(x, y, names, 50.0, "synthetic", "made", teacher_x=x, recording=np.char.add(names, "-a"))


def test_the_gap_is_the_divergence_of_probabilities() -> None:
    rng, part = np.random.default_rng(1), nights()
    teacher, student = rng.normal(size=(2, len(part), 4)) * 2
    found = gaps(SLEEP, part, teacher, student)
    p, q = (np.exp(o) / np.exp(o).sum(axis=1, keepdims=True) for o in (teacher, student))
    np.testing.assert_allclose(found.gap, entropy(p, q, axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.own, entropy(q, base=2, axis=1), rtol=1e-9)
    assert (found.wrong == (student.argmax(axis=1) != part.y)).all()
    assert np.allclose(gaps(SLEEP, part, teacher, teacher).gap, 0)


def test_a_teacher_that_knows_finds_what_the_student_gets_wrong() -> None:
    """The student is sure of itself everywhere, wrong on a third; the teacher is right: the gap tells them apart, the student cannot."""
    part = nights()
    right = np.arange(len(part)) % 3 > 0
    student = 4.0 * np.eye(4)[np.where(right, part.y, (part.y + 1) % 4)]
    found = gaps(SLEEP, part, 4.0 * np.eye(4)[part.y], student)
    said = flag_quality(found, part, 0)
    assert said["auc_gap"]["value"] == 1.0 and said["auc_own"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert said["auc_gap_minus_own"]["low"] > 0.4 and said["wrong"] == int((~right).sum())
    assert said["mean_gap_wrong"] > said["mean_gap_right"] == pytest.approx(0.0)
    rng = np.random.default_rng(2)
    noisy = gaps(SLEEP, part, rng.normal(size=(len(part), 4)), student + rng.normal(size=(len(part), 4)))
    said = flag_quality(noisy, part, 0)
    assert said["auc_gap"]["value"] == pytest.approx(roc_auc_score(noisy.wrong, noisy.gap))
    assert said["auc_gap"]["low"] < said["auc_gap"]["value"] < said["auc_gap"]["high"]


def test_without_a_wrong_segment_there_is_nothing_to_find() -> None:
    part = nights()
    said = flag_quality(gaps(SLEEP, part, np.eye(4)[part.y], np.eye(4)[part.y]), part, 0)
    assert said["auc_gap"]["value"] is None and said["mean_gap_wrong"] is None and said["wrong"] == 0


def test_heart_rates() -> None:
    y = np.array([60.0, 60, 60, 180, 180, 180], np.float32)
    part = Windows(np.zeros((6, 4, 256), np.float32), y, np.repeat(["a", "b"], 3), 32.0, "real", "made")
    student = bpm.to_output(np.array([60.0, 64.9, 66.5, 180, 197.0, 215.0]))[:, None]
    found = gaps(HEART_RATE, part, np.log(bpm.soft_targets(y, 2.0) + 1e-12), student)
    np.testing.assert_allclose(found.gap, [0, 4.9, 6.5, 0, 17, 35], atol=0.05)
    assert found.wrong.tolist() == [False, False, True, False, False, True], "5 BPM or 10 %, whichever is more"
    np.testing.assert_allclose(found.own, [0, 0, 0, 0, 0, 215 - 1.1 * (180 + 197) / 2], atol=1e-3)


def test_the_table() -> None:
    part = nights(12, 3)
    rng = np.random.default_rng(0)
    found = gaps(SLEEP, part, rng.normal(size=(12, 4)), rng.normal(size=(12, 4)))
    rows = list(csv.DictReader(io.StringIO(table(found))))
    assert len(rows) == 12
    assert [row["window"] for row in rows] == [str(i // 3) for i in range(12)], "windows are counted recording by recording"
    assert rows[4]["recording"] == "n1-a" and rows[4]["subject"] == "n1" and rows[4]["label"] == SLEEP.labels[part.y[4]]
    assert float(rows[4]["gap_nats"]) == pytest.approx(found.gap[4], rel=1e-5) and {row["wrong"] for row in rows} <= {"0", "1"}
    plain = gaps(SLEEP, replace(part, recording=None), rng.normal(size=(12, 4)), rng.normal(size=(12, 4)))
    assert (plain.columns["recording"] == part.subject).all()
