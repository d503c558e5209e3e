"""Splits and folds by subject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.base import Windows
from hwnas.tasks.splits import grouped_folds, held_out, split_by_subject

# three classes, the last of them AF
TASK = replace(TASKS["rhythm"], labels=("sinus", "pvc", "af"))


def windows(labels: list[list[int]], length: int = 20) -> Windows:
    """One subject for each list of labels."""
    y = np.array([c for one in labels for c in one], dtype=np.int64)
    subject = np.repeat([f"p{i:02d}" for i in range(len(labels))], [len(one) for one in labels])
    x = np.random.default_rng(0).normal(size=(len(y), 1, length)).astype(np.float32)
    return Windows(x, y, subject, 100.0, "real", "made")


@given(st.integers(0, 1000), st.integers(3, 30))
def test_split_is_a_partition_by_subject_and_repeatable(seed: int, subjects: int) -> None:
    rng = np.random.default_rng(seed)
    data = windows([[0, 2, *rng.integers(0, 3, 6).tolist()] for _ in range(subjects)])
    split = split_by_subject(data, seed, TASK)
    parts = (split.train, split.validation, split.test)
    sets = [set(p.subjects) for p in parts]
    assert set.union(*sets) == set(data.subjects) and sum(len(s) for s in sets) == subjects
    assert sum(len(p) for p in parts) == len(data)
    assert all((p.y == 2).any() and (p.y != 2).any() for p in parts)
    assert len(sets[0]) >= len(sets[1]) == len(sets[2]) == max(1, round(0.2 * subjects))
    again = split_by_subject(data, seed, TASK)
    assert all(np.array_equal(a.x, b.x) for a, b in zip(parts, (again.train, again.validation, again.test), strict=True))


def test_seeds_give_different_splits() -> None:
    data = windows([[0, 1, 2]] * 20)
    assert len({split_by_subject(data, seed, TASK).test.subjects for seed in range(5)}) == 5


def test_a_rare_class_reaches_every_part() -> None:
    # three of 20 subjects have class 1: a random split of 12/4/4 has it everywhere in 17 % of the draws
    data = windows([[0, 2, 1] if k in (3, 8, 15) else [0, 2] for k in range(20)])
    for seed in range(10):
        split = split_by_subject(data, seed, TASK)
        assert all((p.y == 1).any() for p in (split.train, split.validation, split.test))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[0, 2, 1]], "1 subject"),
        ([[0, 2], [0, 2]], "2 subject"),
        ([[2]] * 5, "at least"),
        ([[0]] * 5, "at least"),
        ([[0, 1]] * 5, "lack AF"),
        ([[0, 2], [0, 2], [0], [0]], "lack AF"),
        ([[0, 2], [0, 2], [2], [2]], "anything but AF"),
    ],
)
def test_unsplittable_data_are_refused_with_the_reason(labels: list[list[int]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        split_by_subject(windows(labels), 0, TASK)


@given(st.integers(0, 1000), st.integers(6, 24), st.integers(2, 5))
def test_folds_test_every_subject_once(seed: int, subjects: int, folds: int) -> None:
    data = windows([[0, 1, 2]] * subjects)
    splits = grouped_folds(data, folds, seed, TASK)
    assert sorted(s for split in splits for s in split.test.subjects) == list(data.subjects)
    for number, split in enumerate(splits):
        assert split.test.subjects == data.subjects[number::folds]
        held = set(split.train.subjects), set(split.validation.subjects), set(split.test.subjects)
        assert not held[0] & held[1] and not (held[0] | held[1]) & held[2] and set.union(*held) == set(data.subjects)
        assert len(held[1]) == max(1, round(0.25 * (subjects - len(held[2]))))


def test_as_many_folds_as_subjects_leave_one_out() -> None:
    data = windows([[0, 2]] * 7)
    assert [split.test.subjects for split in grouped_folds(data, 7, 0, TASK)] == [(s,) for s in data.subjects]


def test_named_subjects_are_held_out() -> None:
    data = windows([[0, 2]] * 7)
    assert held_out(data, ["p01", "p06"], 0, TASK).test.subjects == ("p01", "p06")
    assert held_out(data, ["p0[15]", "p06"], 0, TASK).test.subjects == ("p01", "p05", "p06")
    with pytest.raises(DataError, match="no subject p99"):
        held_out(data, ["p99"], 0, TASK)


@pytest.mark.parametrize("folds", [0, 1, 6])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(DataError, match="choose 2 to 5"):
        grouped_folds(windows([[0, 2]] * 5), folds, 0, TASK)


def test_a_fold_that_cannot_be_trained_is_refused() -> None:
    with pytest.raises(DataError, match=r"fold 1 of 2.*lack AF"):
        grouped_folds(windows([[0, 2], [0, 2], [0, 2], [0]]), 2, 0, TASK)
