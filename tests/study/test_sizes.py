"""Students of a wanted size: limits kept, one shape on a ladder, gaps told."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas import families, space
from hwnas.errors import UsageError
from hwnas.graph import Shape
from hwnas.study.sizes import DEPTHS, TOLERANCE, WIDTHS, ladder, nearest

RHYTHM, HEART_RATE = Shape(1, 1000), Shape(4, 256)


@pytest.mark.parametrize("name", ["mobilenet1d", "lstm"])
def test_the_nearest_student_is_below_and_near(name: str) -> None:
    candidate, graph = nearest(name, RHYTHM, 6, 12_000)
    assert 0.97 * 12_000 <= graph.parameters <= 12_000
    assert families.build(candidate, RHYTHM, 6).hash == graph.hash
    assert nearest(name, RHYTHM, 6, graph.parameters) == (candidate, graph)


def test_of_one_size_the_fewest_macs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all candidates of a space of 64."""
    own = space.read("mobilenet1d").model_copy(update={"description": "small"})
    choices = {n: [v[0]] for n, v in own.choices.items()} | {"stem_kernel": [7, 11], "block1_stride": [1, 2, 4], "block2_channels": [8, 16]}
    vars(own)["choices"] = choices
    monkeypatch.setattr("hwnas.study.sizes.spaces.read", lambda _: own)
    _, graph = nearest("mobilenet1d", RHYTHM, 2, 10**6)
    base = {n: v[0] for n, v in choices.items()}
    graphs = [
        families.build(own.candidate(base | {"stem_kernel": k, "block1_stride": s, "block2_channels": c}), RHYTHM, 2)
        for k in (7, 11)
        for s in (1, 2, 4)
        for c in (8, 16)
    ]
    most = max(g.parameters for g in graphs)
    assert (graph.parameters, graph.macs) == (most, min(g.macs for g in graphs if g.parameters == most))


def test_too_small_a_wish_names_the_smallest() -> None:
    with pytest.raises(UsageError, match=r"no student of at most 100 parameters .* 1 x 1000; the smallest of [\d,]+ candidates has \d+"):
        nearest("mobilenet1d", RHYTHM, 6, 100)


@pytest.mark.parametrize("window", [RHYTHM, HEART_RATE])
def test_a_ladder_changes_size_alone(window: Shape) -> None:
    found = ladder("mobilenet1d", window, 2, 500, 50_000, 6)
    assert not found.gaps and [rung.wanted for rung in found.rungs] == [500, 1256, 3155, 7924, 19905, 50000]
    shapes = [{n: v for n, v in rung.candidate.choices if not n.endswith((*WIDTHS, *DEPTHS))} for rung in found.rungs]
    largest = max(shapes, key=len)
    for rung, shape in zip(found.rungs, shapes, strict=True):
        assert rung.wanted * (1 - TOLERANCE) <= rung.graph.parameters <= rung.wanted
        assert shape.items() <= largest.items()
    macs = [rung.graph.macs for rung in found.rungs]
    assert macs == sorted(macs)
    steps = np.diff(np.log([rung.graph.parameters for rung in found.rungs]))
    assert np.allclose(steps, np.log(100) / 5, atol=0.11)


def test_a_ladder_tells_sizes_that_a_space_lacks() -> None:
    found = ladder("microresnet", RHYTHM, 6, 500, 500_000, 4)
    assert [rung.wanted for rung in found.rungs] == [5000, 50_000]
    first, last = found.gaps
    assert "no student of about 500 parameters in space 'microresnet': the smallest of its students" in first
    assert "no student of about 500,000" in last and "the largest of its students" in last


def test_two_wishes_get_two_students() -> None:
    rungs = ladder("mobilenet1d", RHYTHM, 2, 5000, 5040, 3).rungs
    assert len({rung.graph.hash for rung in rungs}) == len(rungs) == 3


@pytest.mark.parametrize(("smallest", "largest", "steps"), [(500, 500, 4), (5000, 500, 4), (500, 5000, 1), (10, 20, 3)])
def test_what_is_no_ladder_is_refused(smallest: int, largest: int, steps: int) -> None:
    with pytest.raises(UsageError, match=r"two at least|offers 0 of 3 sizes"):
        ladder("mobilenet1d", RHYTHM, 2, smallest, largest, steps)
