"""The signal generator: repeatable, and its rhythms are what their names say."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hwnas.errors import DataError
from hwnas.tasks import TASKS, split_by_subject
from hwnas.tasks.synthetic import intervals, parameters, pulse
from hwnas.tasks.synthetic.generator import generate
from hwnas.tasks.synthetic.subject import Person, person


def people(count: int = 20) -> list[Person]:
    return [person(np.random.default_rng([7, k])) for k in range(count)]


def beats(rhythm: int, count: int = 40) -> list[intervals.Beats]:
    y = np.full(count, rhythm)
    return [intervals.simulate(np.random.default_rng(k), who, y, 30.0) for k, who in enumerate(people())]


def variation(rr: np.ndarray) -> np.ndarray:
    return rr.std(axis=1) / rr.mean(axis=1)


def test_same_seed_same_windows_and_other_seed_others() -> None:
    one, two = (generate(seed=3, window_s=10.0, subjects=4, windows=80) for _ in range(2))
    assert np.array_equal(one.x, two.x) and np.array_equal(one.y, two.y)
    assert not np.array_equal(one.x, generate(seed=4, window_s=10.0, subjects=4, windows=80).x)


def test_a_person_does_not_depend_on_how_many_are_asked_for() -> None:
    few, many = generate(seed=3, window_s=10.0, subjects=3, windows=90), generate(seed=3, window_s=10.0, subjects=5, windows=300)
    for name in few.subjects:
        a, b = few.take(few.subject == name), many.take(many.subject == name)
        assert np.array_equal(a.x, b.x[: len(a)]) and np.array_equal(a.y, b.y[: len(a)])


@pytest.mark.parametrize("window_s", [8.0, 10.0, 30.0])
def test_windows_are_normalised_at_any_length(window_s: float) -> None:
    found = generate(seed=0, window_s=window_s, subjects=3, windows=50)
    assert found.x.shape == (50, 1, round(100 * window_s)) and found.x.dtype == np.float32
    assert (found.x.min(axis=2) == -1).all() and (found.x.max(axis=2) == 1).all()
    assert (found.source, found.window_s) == ("synthetic", window_s)
    assert [int((found.subject == s).sum()) for s in found.subjects] == [17, 17, 16]


def test_default_data_split_with_every_class_near_its_prevalence() -> None:
    found = TASKS["rhythm"].load(None, window_s=None, seed=0)
    assert (len(found), len(found.subjects), found.window_s) == (3000, 60, 30.0)
    assert np.abs(np.bincount(found.y) / 3000 - parameters.PREVALENCE).max() < 0.08
    split = split_by_subject(found, 0, TASKS["rhythm"])
    for part in (split.train, split.validation, split.test):
        assert (np.bincount(part.y, minlength=6) >= 15).all()


def test_speed() -> None:
    begin = time.process_time()
    generate(seed=1, window_s=10.0, subjects=30, windows=1500)
    assert time.process_time() - begin < 4.0


def test_sizes_that_do_not_fit_are_refused() -> None:
    for wrong in ({"subjects": 0}, {"subjects": 5, "windows": 4}, {"window_s": 1.0}, {"window_s": float("nan")}):
        with pytest.raises(DataError, match="signal generator"):
            generate(seed=0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="seed -1"):
        generate(seed=-1)


def test_beats_cover_the_window() -> None:
    for rhythm in range(6):
        for found in beats(rhythm, 20):
            assert (found.times_s[:, 0] < 0).all() and (found.times_s[:, -1] > 31.0).all()
            assert (found.rr >= intervals.SHORTEST_S).all() and (found.strength > 0).all()


def test_tables_of_kinds_sum_to_one() -> None:
    tables = [v for k, v in vars(parameters).items() if k.endswith("_KINDS")]
    assert len(tables) == 6
    assert all(sum(share for _, share in table) == pytest.approx(1.0) for table in tables)
    assert sum(parameters.PREVALENCE) == pytest.approx(1.0)


def test_sinus_rate_and_variability_are_physiological() -> None:
    rr = np.concatenate([b.rr for b in beats(parameters.SINUS)])
    bpm = 60 / np.median(rr, axis=1)
    assert bpm.min() >= 44 and bpm.max() < 107
    assert 0.005 < np.median(variation(rr)) < 0.05


def test_af_is_irregular_and_tachycardias_are_regular() -> None:
    af, svt, sinus = (np.concatenate([b.rr for b in beats(r)]) for r in (parameters.AF, parameters.SVT, parameters.SINUS))
    assert np.median(variation(af)) > 5 * np.median(variation(sinus))
    assert np.median(variation(svt)) < 0.03
    assert (60 / np.median(svt, axis=1) > 98).mean() > 0.8
    # irregularly irregular: one interval says little about the next
    inside = af - af.mean(axis=1, keepdims=True)
    serial = (inside[:, 1:] * inside[:, :-1]).mean(axis=1) / inside.var(axis=1)
    assert abs(np.median(serial)) < 0.15


def test_vt_is_fast() -> None:
    rr = np.concatenate([b.rr for b in beats(parameters.VT)])
    # every window holds three beats in a row above 100 bpm
    fast = rr < 0.6
    assert (fast[:, :-2] & fast[:, 1:-1] & fast[:, 2:]).any(axis=1).mean() > 0.98
    assert 105 <= np.median(60 / rr[fast]) <= 190


def test_a_compensatory_pause_makes_two_cycles_and_an_atrial_one_less() -> None:
    who, rr = people(1)[0], np.full((400, 12), 0.9)
    places = np.zeros(rr.shape, bool)
    places[:, 5] = True
    pvc = intervals.with_pvc(np.random.default_rng(0), who, rr, places)
    pair = pvc.rr[:, 5] + pvc.rr[:, 6]
    full = np.isclose(pair, 1.8)
    assert full.mean() > 0.9 and (pair[~full] < 1.8).all()
    assert (pvc.rr[:, 5] < 0.82).all() and np.allclose(np.delete(pvc.rr, [5, 6], axis=1), 0.9)
    pac = intervals.with_pac(np.random.default_rng(0), who, rr, places, np.zeros(400, bool))
    assert (pac.rr[:, 5] + pac.rr[:, 6]).mean() < 1.78 and (pac.rr[:, 5] < 0.85).all()
    blocked = intervals.with_pac(np.random.default_rng(0), who, rr, places, np.ones(400, bool))
    assert ((blocked.rr[:, 5] > 1.2) & (blocked.rr[:, 5] < 1.8)).all()


def test_a_couplet_is_paid_back_once() -> None:
    who, rr = people(1)[0], np.full((200, 14), 0.8)
    places = np.zeros(rr.shape, bool)
    places[:, [3, 7, 8]] = True
    pvc = intervals.with_pvc(np.random.default_rng(1), who, rr, places)
    total = pvc.rr.sum(axis=1)
    paid = np.isclose(total, 14 * 0.8)
    assert paid.mean() > 0.9
    assert np.allclose(pvc.rr[paid, 3] + pvc.rr[paid, 4], 1.6)
    assert np.allclose(pvc.rr[paid, 7:10].sum(axis=1), 2.4)


def test_ectopic_windows_show_an_ectopic_beat() -> None:
    for rhythm in (parameters.PVC, parameters.PAC):
        y = np.full(60, rhythm)
        for k, who in enumerate(people(8)):
            found = intervals.simulate(np.random.default_rng(k), who, y, 10.0)
            inside = (found.times_s > 0) & (found.times_s < 10.0)
            early = (np.abs(np.diff(found.rr, axis=1)) / found.rr[:, 1:] > 0.06) & inside[:, 1:]
            assert early.any(axis=1).mean() > 0.97


def test_premature_pulses_are_weaker() -> None:
    who = people(1)[0]
    rr = np.full((200, 40), 0.9)
    rr[:, 20] = 0.45
    size, arrival = pulse._pulses(np.random.default_rng(0), who, intervals.Beats(rr, np.ones_like(rr)))
    seen = size[:, 20] > 0
    assert (size[seen, 20] < np.median(size, axis=1)[seen]).mean() > 0.95
    assert np.allclose(arrival - np.cumsum(rr, axis=1) + intervals.LEAD_S, 0.0, atol=0.12)
