"""Parts that share no subject: one split into three, or folds in which every subject is tested once. Numpy only; no files.

Assignments are drawn at random and chosen by labels only, never by signals.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Task, Windows

PARTS = ("train", "validation", "test")
SHARES = np.array([0.6, 0.2, 0.2])
VALIDATION_SHARE = 0.25  # of the subjects of a fold that are not tested
ASSIGNMENTS = 300


@dataclass(frozen=True)
class Split:
    """Three parts that share no subject."""

    train: Windows
    validation: Windows
    test: Windows


def split_by_subject(windows: Windows, seed: int, task: Task) -> Split:
    """Split about 60/20/20 by subject.

    Draws 300 random assignments from Generator(seed) and keeps the one that leaves the fewest (part, stratum) pairs empty,
    then the one whose parts are nearest to 60/20/20 of all windows and of each stratum.

    Raises:
        DataError: fewer than 3 subjects, one stratum only, or no assignment with what the task needs in every part.
    """
    names, member = np.unique(windows.subject, return_inverse=True)
    if len(names) < len(PARTS):
        raise DataError(
            f"{windows.name}: {len(names)} subject(s); a split into {', '.join(PARTS)} by subject needs at least 3, "
            "and some 20 for figures that mean something"
        )
    counts = _counts(windows, task, member)
    held_out = max(1, round(len(names) * SHARES[1]))
    numbers = np.repeat([0, 1, 2], [len(names) - 2 * held_out, held_out, held_out])
    part = _best_assignment(counts, numbers, SHARES, task.needed, np.random.default_rng(seed))
    _check(windows.name, task, counts, part, PARTS)
    return Split(*(windows.take(np.flatnonzero(part[member] == number)) for number in range(len(PARTS))))


def grouped_folds(windows: Windows, folds: int, seed: int, task: Task) -> tuple[Split, ...]:
    """`folds` splits that test every subject once: fold k tests the sorted subjects whose place is k modulo `folds`.

    A quarter of the other subjects validate, chosen as in `split_by_subject` from Generator((seed, k)); the rest train. With as many
    folds as subjects this is leave-one-subject-out.

    Raises:
        DataError: fewer than 2 folds, more folds than subjects, too few subjects to train on, or parts without what the task needs.
    """
    names = windows.subjects
    if not 2 <= folds <= len(names):
        raise DataError(f"{windows.name}: {folds} folds of {len(names)} subjects; choose 2 to {len(names)} (leave-one-subject-out)")
    place = np.arange(len(names))
    return tuple(_hold_out(windows, place % folds == k, [seed, k], task, f"fold {k + 1} of {folds}") for k in range(folds))


def held_out(windows: Windows, test: Sequence[str], seed: int, task: Task) -> Split:
    """The split that tests the subjects `test`, names or patterns such as `test-*`; a quarter of the others validate.

    Raises:
        DataError: an unknown subject, or as `grouped_folds`.
    """
    names = windows.subjects
    meant = {pattern: fnmatch.filter(names, pattern) for pattern in test}
    if unknown := [pattern for pattern, found in meant.items() if not found]:
        raise DataError(f"{windows.name}: no subject {unknown[0]} to hold out; it has {', '.join(names)}")
    return _hold_out(windows, np.isin(names, [name for found in meant.values() for name in found]), [seed], task, "the part held out")


def _hold_out(windows: Windows, tested: NDArray[np.bool_], seed: list[int], task: Task, where: str) -> Split:
    """The split that tests the subjects (in sorted order) marked `tested`."""
    _, member = np.unique(windows.subject, return_inverse=True)
    counts, others = _counts(windows, task, member), np.flatnonzero(~tested)
    held = max(1, round(len(others) * VALIDATION_SHARE))
    if len(others) - held < 1:
        raise DataError(f"{windows.name}, {where}: {len(others)} subject(s) to train and validate on; at least 2 are needed")
    numbers = np.repeat([0, 1], [len(others) - held, held])
    part = np.full(len(tested), 2)
    shares = np.array([1 - VALIDATION_SHARE, VALIDATION_SHARE])
    part[others] = _best_assignment(counts[others], numbers, shares, task.needed, np.random.default_rng(seed))
    # what a test part lacks is not the fold's fault: its metrics say so where they need it
    _check(f"{windows.name}, {where}", task, counts, part, PARTS[:2])
    return Split(*(windows.take(np.flatnonzero(part[member] == number)) for number in range(len(PARTS))))


def _counts(windows: Windows, task: Task, member: NDArray[np.int64]) -> NDArray[np.int64]:
    """Windows (S, strata) of each subject in each stratum."""
    strata = task.strata(windows.y)
    counts = np.zeros((int(member.max()) + 1, 1 + max(int(strata.max()), *task.needed, 0)), dtype=np.int64)
    np.add.at(counts, (member, strata), 1)
    if task.kind == "classification" and len(present := np.flatnonzero(counts.sum(axis=0))) < 2:
        raise DataError(
            f"{windows.name}: all {len(windows)} windows are of class {present.tolist()}; a classifier needs two classes at least"
        )
    return counts


def _check(name: str, task: Task, counts: NDArray[np.int64], part: NDArray[np.int64], parts: Sequence[str]) -> None:
    """Refuse an assignment with a part that lacks a needed stratum, or holds nothing else."""
    for number, title in enumerate(parts):
        inside = counts[part == number].sum(axis=0)
        for stratum in task.needed:
            if 0 < inside[stratum] < inside.sum():
                continue
            label = task.labels[stratum].upper()
            lacking = label if inside[stratum] == 0 else f"anything but {label}"
            raise DataError(
                f"{name}: no split of its {len(part)} subjects has {label} and something else in every part "
                f"(the {title} part would lack {lacking}); add recordings of other patients"
            )


def _best_assignment(
    counts: NDArray[np.int64],
    numbers: NDArray[np.int64],
    shares: NDArray[np.float64],
    needed: Sequence[int],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Part number of each subject: the best of 300 permutations of `numbers`, from counts (S, strata) of its windows."""
    present = counts[:, counts.sum(axis=0) > 0]
    pairs = [np.stack([counts.sum(axis=1) - counts[:, n], counts[:, n]], axis=1) for n in needed]
    best, best_cost = numbers, np.inf
    for _ in range(ASSIGNMENTS):
        part = rng.permutation(numbers)
        inside = part[None, :] == np.arange(len(shares))[:, None]
        per_stratum = inside @ present
        lacking = sum(int(np.count_nonzero(inside @ pair == 0)) for pair in pairs)
        missing = np.count_nonzero(per_stratum == 0) + len(shares) * present.shape[1] * lacking
        share = np.abs(per_stratum / present.sum(axis=0) - shares[:, None]).mean()
        size = np.abs(per_stratum.sum(axis=1) / present.sum() - shares).mean()
        cost = 10.0 * missing + share + size
        if cost < best_cost:
            best, best_cost = part, cost
    return best
