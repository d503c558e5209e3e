"""Several runs side by side: what may share axes does, what may not stands apart or is refused, and volumes are those of the formula."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from made_runs import BUDGET, made_report

from hwnas.errors import UsageError
from hwnas.report import comparison
from hwnas.report.content import EMULATED, NONE, PREDICTED
from hwnas.report.history import hypervolumes
from hwnas.report.runs import Run, apart, best, grounds, overview, settings, volumes, warnings

Edit = Callable[[dict[str, Any]], None]


def run(name: str, edit: Edit | None = None, **options: Any) -> Run:
    report = made_report(**options)
    front = copy.deepcopy(dict(report.front))
    if edit is not None:
        edit(front)
    return Run(name, replace(report, front=front))


def corner_run(name: str, *points: tuple[float, float, float, float], limits: dict[str, float] | None = None) -> Run:
    """A run whose front are `points`: error, and costs as shares of the budget."""

    def edit(front: dict[str, Any]) -> None:
        template = front["students"][0]
        front["students"] = []
        for number, (error, *shares) in enumerate(points):
            student = copy.deepcopy(template) | {"id": f"{name}{number}"}
            student["metrics"]["validation"]["af_auc"] = 1 - error
            for cost, part in zip(("latency_us", "ram_bytes", "flash_bytes"), shares, strict=True):
                student["cost"][cost] = dict.fromkeys((PREDICTED, EMULATED), part * BUDGET[cost])
            front["students"].append(student)
        front["budget"] |= limits or {}

    return run(name, edit)


def cells(section: Any, column: str) -> list[str]:
    """The first column of that title; titles repeat under other kinds."""
    index = [c.title for c in section.columns].index(column)
    return [row[index] for row in section.rows]


def test_the_volume_of_one_point_is_that_of_its_box() -> None:
    """Half the error of chance and half of every limit: a half to the fourth; two that dominate different parts: by inclusion-exclusion."""
    first = corner_run("first", (0.25, 0.5, 0.5, 0.5))
    second = corner_run("second", (0.25, 0.5, 0.5, 0.5), (0.375, 0.25, 0.5, 0.5))
    (ground,) = grounds([first, second])
    both = 0.5 * 0.5 * (0.5 * 0.5 + 0.25 * 0.75 - 0.25 * 0.5)
    assert cells(volumes(ground), "hypervolume") == [f"{0.5**4:.4f}", f"{both:.4f}"]


def test_budgets_that_differ_share_the_loosest_as_reference() -> None:
    """Twice the latency allowed to one run halves the share of that axis for both."""
    wide = {"latency_us": 2 * BUDGET["latency_us"]}
    (ground,) = grounds([corner_run("narrow", (0.25, 0.5, 0.5, 0.5)), corner_run("wide", (0.25, 0.5, 0.5, 0.5), limits=wide)])
    assert cells(volumes(ground), "hypervolume") == [f"{0.75 * 0.5**3:.4f}"] * 2
    assert "40.00 ms" in volumes(ground).note


def test_the_joint_front_counts_students_that_no_other_run_beats() -> None:
    better = corner_run("better", (0.1, 0.5, 0.5, 0.5))
    worse = corner_run("worse", (0.2, 0.6, 0.5, 0.5), (0.3, 0.1, 0.1, 0.1))
    (ground,) = grounds([better, worse])
    assert cells(volumes(ground), "of the joint front") == ["1", "1"]


def test_the_volume_of_the_search_is_that_of_its_history() -> None:
    one = run("one")
    (ground,) = grounds([one])
    last = hypervolumes(one.report.front, one.report.trials)[-1].hypervolume
    index = [i for i, c in enumerate(volumes(ground).columns) if c.title == "hypervolume"][1]
    assert volumes(ground).rows[0][index] == f"{last:.4f}"


def changed(**fields: Any) -> Edit:
    return lambda front: front.update(fields)


@pytest.mark.parametrize(
    "edit",
    [
        changed(profile="stm32l4r5"),
        changed(source="real"),
        changed(split_seed=3),
        changed(chance_error=0.4),
        lambda front: front["windows"].update(hash="0"),
        lambda front: front["hardware"].update(clock_hz=64_000_000),
        lambda front: front["hardware"].update(emulated="measured on a board"),
    ],
    ids=["profile", "source", "split", "chance", "windows", "clock", "method"],
)
def test_what_means_something_else_stands_apart(edit: Edit) -> None:
    runs = [run("a"), run("b", edit), run("c")]
    found = grounds(runs)
    assert [[r.name for r in ground.runs] for ground in found] == [["a", "c"], ["b"]]
    assert found[0].title != found[1].title
    assert "no difference between searches" in apart(found)
    for ground, names in zip(found, (["a", "c"], ["b"]), strict=True):
        for section in (volumes(ground), *best(ground)):
            assert cells(section, "run") == names


def test_another_kernel_set_is_another_ground() -> None:
    old = run("old")
    prints = {**old.report.run_yaml, "fingerprint": {"kernels": "0", "profile_content": "cfffbec794b14f43"}}
    found = grounds([run("new"), Run("old", replace(old.report, run_yaml=prints))])
    assert len(found) == 2 and "kernels 0" in found[1].title


def test_tasks_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a learned rhythm .*b sleep.*compare runs of one task"):
        grounds([run("a"), run("b", changed(task="sleep", primary="kappa"))])


def test_a_table_holds_one_kind_of_cost_in_a_column() -> None:
    def predicted_only(front: dict[str, Any]) -> None:
        for student in front["students"]:
            for pair in student["cost"].values():
                pair[EMULATED] = None

    (mixed,) = grounds([run("a"), run("b", predicted_only)])
    assert mixed.kind == PREDICTED, "one run has no emulated costs, so none is drawn with them"
    (whole,) = grounds([run("a"), run("b")])
    assert whole.kind == EMULATED
    _, cost = best(mixed)
    assert [c.group for c in cost.columns[2:]] == ["predicted"] * 5 + ["emulated (modelled cycles)"] * 5
    assert set(cost.rows[1][7:]) == {NONE}


def test_settings_that_differ_are_listed_and_others_are_not() -> None:
    a, b = run("a"), run("b", seed=1)
    section = settings([a, b])
    assert {row[0]: row[1:] for row in section.rows} == {"seed": ("0", "1")}
    assert settings([a, a]).rows == ()


def test_quick_runs_are_named() -> None:
    assert warnings([run("a"), run("b", changed(effort="quick"))]) == ["b: quick effort: a look, not a result"]


def test_the_overview_has_every_run_once() -> None:
    found = grounds([run("a"), run("b", changed(split_seed=1)), run("c")])
    assert sorted(cells(overview(found), "run")) == ["a", "b", "c"]


def test_files_are_the_same_each_time_and_hold_every_run() -> None:
    runs = [run("a"), run("b", seed=1), run("c", changed(profile="<b>$x$"))]
    files, again = comparison.render(runs), comparison.render(runs)
    assert files == again
    assert set(files) == {"compare.html", "compare.md", "figures/compare-1.png", "figures/compare-2.png"}
    assert files["figures/compare-1.png"].startswith(b"\x89PNG")
    text, page = files["compare.md"].decode(), files["compare.html"].decode()
    for name in ("figures/compare-1.png", "figures/compare-2.png"):
        assert f"]({name})" in text
    assert "<b>" not in text and "<b>$x$" not in page
    for one in runs:
        for student in one.report.front["students"]:
            assert student["id"] in page


def test_a_run_without_a_front_is_compared_all_the_same() -> None:
    empty = run("empty", changed(students=[], best=None))
    (ground,) = grounds([run("a"), empty])
    assert cells(volumes(ground), "hypervolume")[1] == "0.0000"
    assert cells(best(ground)[0], "run") == ["a"]
    assert "compare.md" in comparison.render([run("a"), empty])
    assert "compare.md" in comparison.render([empty, replace(empty, name="other")])
