"""Search spaces: every declared choice is reachable, inactive choices do not count, conditions hold, bad files are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from hwnas import space
from hwnas.config import parse
from hwnas.errors import ConfigError
from hwnas.resources import folder
from hwnas.space.grammar import Choice, Group, SearchSpace, Whole

SPACE = space.read("mobilenet1d")
ALL = space.names()


def draw(found: SearchSpace, generator: np.random.Generator) -> dict[str, int]:
    return {name: values[generator.integers(len(values))] for name, values in found.choices.items()}


class Part(Group):
    """Conditions on a neighbour, on a choice of the whole space, and on a choice that is conditional itself."""

    stride: Choice
    dilation: Choice
    depth: Choice
    trim: Whole


class Toy(SearchSpace):
    """Small enough to write out."""

    mode: Choice
    once: Part
    parts: Whole
    part: Part


PART = {
    "stride": [1, 2],
    "dilation": {"values": [1, 2, 4], "when": {"stride": [1]}},
    "depth": {"values": [8, 9], "when": {"mode": [2, 3]}},
    "trim": {"values": [0, 1], "when": {"dilation": [2, 4], "mode": [3]}},
}
TOY = {"family": "toy", "description": "", "mode": [1, 2, 3], "once": PART, "parts": [0, 1], "part": PART}


def toy(**changes: object) -> Toy:
    return parse(TOY | changes, Toy, "toy.yaml")


def test_the_size_is_the_number_of_candidates() -> None:
    found = toy()
    points = itertools.product(*found.choices.values())
    candidates = {found.candidate(dict(zip(found.choices, point, strict=True))) for point in points}
    # of one part, in mode 1: stride 2 or one of 3 dilations; in mode 2 each at 2 depths; in mode 3 2 dilations twice, trimmed or not
    assert [sum(dict(c.choices)["mode"] == mode for c in candidates) for mode in (1, 2, 3)] == [4 + 4**2, 8 + 8**2, 12 + 12**2]
    assert found.size == len(candidates)


def test_a_condition_may_name_a_neighbour_or_a_choice_of_the_whole_space() -> None:
    found = toy()
    chosen = {"mode": 2, "once_stride": 2, "once_dilation": 4, "once_depth": 9, "once_trim": 1, "parts": 0}
    assert found.candidate(chosen).choices == (("mode", 2), ("once_stride", 2), ("once_depth", 9), ("parts", 0))
    deep = found.candidate(chosen | {"mode": 3, "once_stride": 1, "once_dilation": 2})
    assert deep.group("once") == {"stride": 1, "dilation": 2, "depth": 9, "trim": 1}
    assert deep.group("part1") == {}
    with pytest.raises(ConfigError, match=r"'once_trim' of space 'toy': got None, allowed are \[0, 1\]"):
        found.candidate({name: value for name, value in dict(deep.choices).items() if name != "once_trim"})


def test_combinations_are_what_candidates_hold() -> None:
    found = toy()
    held = {tuple(found.candidate(draw(found, np.random.default_rng(seed))).group("once").items()) for seed in range(400)}
    assert {tuple(c.items()) for c in found.combinations("once")} == held
    assert len(held) == len(found.combinations("once")) == 4 + 8 + 8  # without depth, with depth, with trim too


def test_declared_names_every_choice_once() -> None:
    names = [choice.name for choice in toy().declared]
    part = ("stride", "dilation", "depth", "trim")
    assert names == ["mode", *(f"once_{p}" for p in part), "parts", *(f"partN_{p}" for p in part)]
    (dilation,) = (choice for choice in toy().declared if choice.name == "partN_dilation")
    assert dilation.when == {"partN_stride": [1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"once": PART | {"stride": {"values": [1], "when": {"dilation": [1]}}}}, r"'once.stride' depends on .* not declared before"),
        ({"once": PART | {"depth": {"values": [1], "when": {"mod": [2]}}}}, "Did you mean 'mode'"),
        (
            {"once": PART | {"depth": {"values": [1], "when": {"mode": [2, 5]}}}},
            r"'once.depth' asks for mode 5; its values are \[1, 2, 3\]",
        ),
        (
            {"part": PART | {"trim": {"values": [1], "when": {"stride": [2], "dilation": [1]}}}},
            r"'part.trim' can never hold",
        ),
        ({"mode": {"values": [1], "when": {"parts": [1]}}}, "'mode' depends on a choice that is not declared before"),
        ({"once": PART | {"depth": {"value": [1]}}}, r"once.depth.value': unknown key.*Did you mean 'values'"),
        ({"once": PART | {"depth": {"values": [1], "when": {}, "if": 3}}}, "unknown key 'if'"),
        ({"once": PART | {"depth": 8}}, r"at 'once.depth': expected a list of values"),
        ({"once": PART | {"depth": {"values": [1], "when": {"mode": []}}}}, r"once.depth.when.mode"),
        ({"parts": [0, -1]}, "parts.values.1.*greater than or equal to 0"),
        ({"parts": [True]}, "parts.values.0"),
    ],
)
def test_impossible_conditions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        toy(**changes)
    assert "toy.yaml" in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_every_declared_choice_is_reached(name: str) -> None:
    found, generator = space.read(name), np.random.default_rng(0)
    reached: dict[str, set[int]] = {choice: set() for choice in found.choices}
    for _ in range(3000):
        for choice, value in found.candidate(draw(found, generator)).choices:
            reached[choice].add(value)
    assert {choice: sorted(values) for choice, values in reached.items()} == {n: sorted(v) for n, v in found.choices.items()}


@pytest.mark.parametrize("name", ALL)
def test_inactive_choices_do_not_distinguish_candidates(name: str) -> None:
    found, generator = space.read(name), np.random.default_rng(1)
    dropped = 0
    for _ in range(100):
        parameters, others = draw(found, generator), draw(found, generator)
        candidate = found.candidate(parameters)
        inactive = {choice: value for choice, value in others.items() if choice not in candidate.values}
        dropped += len(inactive)
        assert found.candidate(parameters | inactive) == found.candidate(candidate.values) == candidate
    assert dropped > 100


def test_size_counts_active_choices() -> None:
    undilated, dilated = 8 * 3 * (4 * 2 + 2), 8 * 3 * 2 * 3  # kernels 5 and 9 at stride 1 are dilated
    block = undilated + dilated
    assert SPACE.size == 4 * 4 * 2 * sum(block**n for n in (2, 3, 4, 5, 6))


@pytest.mark.parametrize("name", ALL)
def test_dilation_is_active_exactly_where_the_file_says(name: str) -> None:
    found, generator = space.read(name), np.random.default_rng(2)
    rules = {choice.name.replace("N_", "1_"): choice.when for choice in found.declared if choice.when}
    for _ in range(200):
        values = found.candidate(draw(found, generator)).values
        for choice, when in rules.items():
            member = choice.rpartition("_")[0]
            if any(other.startswith(f"{member}_") for other in values):
                holds = all(values.get(other.replace("N_", "1_")) in allowed for other, allowed in when.items())
                assert (choice in values) == holds


def test_nni_format() -> None:
    assert SPACE.to_nni()["stem_stride"] == {"_type": "choice", "_value": [4, 8]}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stem_kernel": 6}, "stem_kernel"), ({"stem_kernal": 7}, "Did you mean 'stem_kernel'"), ({"blocks": 1}, "blocks")],
)
def test_parameters_outside_the_space_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SPACE.candidate(draw(SPACE, np.random.default_rng(2)) | change)


def test_unknown_space_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mobilenet1d'"):
        space.read("mobilenet1")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("mobilenet1d", "kernel: [7, 11, 15, 23]", "kernal: [7]", r"stem.kernal.*Did you mean 'kernel'"),
        ("mobilenet1d", "blocks: [2, 3, 4, 5, 6]", "blocks: [2, 2]", "distinct"),
        ("mobilenet1d", "blocks: [2, 3, 4, 5, 6]", "blocks: []", "blocks"),
        ("mobilenet1d", "blocks: [2, 3, 4, 5, 6]", "blocks: [0]", "greater than 0"),
        ("mobilenet1d", "blocks: [2, 3, 4, 5, 6]", "blocks: [two]", "blocks"),
        ("mobilenet1d", "family: mobilenet1d", "family: [", "not valid YAML"),
        ("mobilenet1d", "family: mobilenet1d", "family: mobilenet", r"'family': unknown family.*Did you mean 'mobilenet1d'"),
        ("mobilenet1d", "family: mobilenet1d", "", "'family'"),
        ("mobilenet1d", "stride: [1]", "strides: [1]", r"block.dilation.*Did you mean 'stride'"),
        ("microresnet", "family: microresnet", "family: lstm", r"key 'frame' is missing"),
        ("microresnet", "  pool: [1, 2, 4]\n", "", "key 'stem.pool' is missing"),
        ("lstm", "units: [8,", "units: [0,", "lstm.units"),
        ("modality_conv", "mixer:", "mixers:", "Did you mean 'mixer'"),
    ],
)
def test_broken_space_files_are_refused(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    text = (folder("search_spaces") / f"{name}.yaml").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        space.read(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(caught.value)
