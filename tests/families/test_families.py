"""What every family promises: its range of sizes, distinct networks, the operators that it reaches, shapes that kernels do well."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from hwnas import families, space
from hwnas.errors import UsageError
from hwnas.export import depthwise
from hwnas.graph import Conv1d, DepthwiseConv1d, Graph, Lstm, Shape
from hwnas.space import Candidate, SearchSpace

ALL = space.names()
# Parameters of the smallest network, at most, and of the largest, at least and at most; spectral ones are small.
RANGES = dict.fromkeys(ALL, (1_000, 300_000, 500_000)) | {"spectral": (1_200, 7_000, 9_000)}
WINDOWS = [Shape(1, 1000), Shape(1, 3000), Shape(4, 256)]


def drawn(found: SearchSpace, rng: np.random.Generator) -> dict[str, int]:
    return {name: values[rng.integers(len(values))] for name, values in found.choices.items()}


def built(found: SearchSpace, parameters: dict[str, int], window: Shape, outputs: int = 6) -> Graph:
    return families.build(found.candidate(parameters), window, outputs)


def extreme(found: SearchSpace, *, largest: bool) -> dict[str, int]:
    """All that makes a network large, or small; strides as large as there are, where shortcuts that change the shape have weights."""
    chosen = {}
    for name, values in found.choices.items():
        most = largest != name.endswith("reduction") if not name.endswith("stride") else largest
        chosen[name] = max(values) if most else min(values)
    return chosen


def test_every_family_has_a_space_and_every_space_a_family() -> None:
    assert sorted(families.FAMILIES) == sorted(space.read(name).family for name in ALL)
    with pytest.raises(UsageError, match="Did you mean 'lstm'"):
        families.build(Candidate("lstn", ()), Shape(1, 10), 2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("window", WINDOWS[:2], ids=str)
def test_parameters_span_the_declared_range(name: str, window: Shape) -> None:
    found, rng = space.read(name), np.random.default_rng(0)
    smallest, largest = (built(found, extreme(found, largest=large), window).parameters for large in (False, True))
    small, large, limit = RANGES[name]
    assert smallest <= small and large <= largest <= limit
    assert all(smallest <= built(found, drawn(found, rng), window).parameters <= largest for _ in range(300))


@pytest.mark.parametrize("name", ALL)
def test_there_are_more_than_a_hundred_thousand_networks(name: str) -> None:
    """Birthday argument: of n draws from N equally likely networks (from unequally likely ones sooner), n^2 / 2N pairs are expected equal.

    With N = 10^5 and n = 3,000 that is 45 pairs, and fewer than 25 once in a thousand times. A quarter of the spectral draws have one block
    and only thousands of forms: there N = 5 * 10^4, which makes 90 pairs, is refuted.
    """
    found, rng, draws = space.read(name), np.random.default_rng(4), 3000
    hashes = Counter(built(found, drawn(found, rng), WINDOWS[0]).hash for _ in range(draws))
    pairs = sum(math.comb(times, 2) for times in hashes.values())
    assert pairs < (60 if name == "spectral" else 25)
    assert found.size > 10**5


@pytest.mark.parametrize("name", ALL)
def test_candidates_that_differ_are_other_networks(name: str) -> None:
    """Changing one active choice changes the network, at a window that is long enough for every stride."""
    found, rng = space.read(name), np.random.default_rng(5)
    for _ in range(40):
        parameters = drawn(found, rng)
        candidate = found.candidate(parameters)
        choice = list(candidate.values)[rng.integers(len(candidate.values))]
        same = built(found, parameters, Shape(1, 100_000)).hash
        hashes = {built(found, parameters | {choice: value}, Shape(1, 100_000)).hash for value in found.choices[choice]}
        assert same in hashes and len(hashes) == len(found.choices[choice])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("window", [*WINDOWS, Shape(3, 50)], ids=str)
def test_reach_covers_every_operator_of_random_candidates(name: str, window: Shape) -> None:
    found, rng = space.read(name), np.random.default_rng(0)
    reached = {(node.op, source, node.shape) for node, source in families.reach(found, window, 6)}
    met = set()
    for _ in range(300):
        graph = built(found, drawn(found, rng), window)
        met |= {(node.op, graph.in_shape(node), node.shape) for node in graph.nodes[1:]}
    assert met <= reached
    assert len(reached) < 5000


def test_reach_is_no_more_than_what_candidates_contain() -> None:
    """Exhaustive, on a space cut down to few choices: every operator that is met is that of some candidate, and the other way round."""
    for name in ALL:
        found = space.read(name)
        few = {
            part: {k: c.model_copy(update={"values": c.values[:2]}) for k, c in getattr(found, part).choices.items()}
            for part in type(found).model_fields
            if hasattr(getattr(found, part), "choices")
        }
        counts = {
            part: getattr(found, part).model_copy(update={"values": [1, 2]})
            for part in ("blocks", "convs", "shared_blocks")
            if hasattr(found, part)
        }
        small = found.model_copy(update={part: getattr(found, part).model_copy(update=inner) for part, inner in few.items()} | counts)
        rng, window = np.random.default_rng(3), Shape(2, 64)
        met = set()
        for _ in range(2500):
            graph = built(small, drawn(small, rng), window)
            met |= {(node.op, graph.in_shape(node)) for node in graph.nodes[1:]}
        assert met == {(node.op, source) for node, source in families.reach(small, window, 6)}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("window", [Shape(1, 1), Shape(1, 5), Shape(4, 7), Shape(4, 256)], ids=str)
def test_any_window_gives_a_network(name: str, window: Shape) -> None:
    found, rng = space.read(name), np.random.default_rng(1)
    for chosen in [extreme(found, largest=False), extreme(found, largest=True), *(drawn(found, rng) for _ in range(50))]:
        assert built(found, chosen, window, 2).output_shape == Shape(2, 1)


@pytest.mark.parametrize("name", ALL)
def test_shapes_are_those_that_kernels_do_well(name: str) -> None:
    """Widths in whole blocks of four, odd depthwise filters each with a function of its own, nothing dilated and strided at once."""
    for node, source in families.reach(space.read(name), Shape(1, 3000), 6):
        if isinstance(node.op, Conv1d | DepthwiseConv1d | Lstm):
            assert node.shape.channels % 4 == 0
        if isinstance(node.op, Conv1d | DepthwiseConv1d):
            assert node.op.dilation == 1 or node.op.stride == 1
        if isinstance(node.op, DepthwiseConv1d):
            assert node.op.kernel % 2 == 1 and node.op.kernel <= 11
            assert depthwise.is_specialised(depthwise.Filter(node.op.kernel, node.op.stride, node.op.dilation, source.channels))
