"""Several spaces as one: names, size, which choices count, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwnas import space
from hwnas.errors import ConfigError
from hwnas.space.joint import FAMILY_CHOICE, JointSpace, read_joint

NAMES = space.names()
JOINT = read_joint(NAMES)


def draw(joint: JointSpace, seed: int, **fixed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: values[rng.integers(len(values))] for name, values in joint.choices.items()} | fixed


def test_one_space_keeps_its_plain_names() -> None:
    alone, joint = space.read("lstm"), read_joint(["lstm"])
    assert joint.choices == alone.choices and joint.to_nni() == alone.to_nni() and joint.size == alone.size
    parameters = draw(joint, 0)
    assert joint.candidate(parameters) == alone.candidate(parameters)
    assert joint.active(parameters) == alone.candidate(parameters).values.keys()
    assert joint.parameters("lstm", parameters) == parameters


def test_several_spaces_are_flat_choices_with_a_family() -> None:
    assert JOINT.choices[FAMILY_CHOICE] == NAMES == list(JOINT.families)
    assert len(JOINT.choices) == 1 + sum(len(space.read(name).choices) for name in NAMES)
    assert JOINT.to_nni()["mobilenet1d.stem_stride"] == {"_type": "choice", "_value": [4, 8]}
    assert JOINT.size == sum(space.read(name).size for name in NAMES)
    assert next(iter(JOINT.choices)) == FAMILY_CHOICE, "what makes a choice active stands before it"


@pytest.mark.parametrize("family", NAMES)
def test_choices_of_other_families_do_not_distinguish_candidates(family: str) -> None:
    parameters, others = draw(JOINT, 1, space=family), draw(JOINT, 2)
    own = {name: value for name, value in parameters.items() if name.startswith(f"{family}.")}
    candidate = JOINT.candidate(parameters)
    assert candidate.family == family and candidate == space.read(family).candidate({n.split(".")[1]: v for n, v in own.items()})
    assert JOINT.candidate(others | own | {"space": family}) == candidate
    assert JOINT.candidate(own | {"space": family}) == candidate
    assert JOINT.candidate(JOINT.parameters(family, candidate.values)) == candidate


@pytest.mark.parametrize("joint", [JOINT, read_joint(["mobilenet1d"])])
@pytest.mark.parametrize("seed", range(20))
def test_active_choices_and_no_others_decide_the_candidate(joint: JointSpace, seed: int) -> None:
    parameters = draw(joint, seed)
    candidate, active = joint.candidate(parameters), joint.active(parameters)
    for name, values in joint.choices.items():
        changed = {str(joint.candidate(parameters | {name: value})) for value in values if value != parameters[name]}
        assert (str(candidate) not in changed and bool(changed)) == (name in active and len(values) > 1), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "lstn"}, "choice 'space': got 'lstn', allowed are"),
        ({"mobilenet1d.stem_kernal": 7}, r"Did you mean 'mobilenet1d\.stem_kernel'"),
        ({"stem_kernel": 7}, "unknown choice 'stem_kernel'"),
        ({"mobilenet1d.stem_kernel": 6}, "choice 'stem_kernel' of space 'mobilenet1d': got 6"),
    ],
)
def test_parameters_outside_the_space_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JOINT.candidate(draw(JOINT, 3, space="mobilenet1d") | change)


def test_a_candidate_without_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="choice 'space': got None"):
        JOINT.candidate({"lstm.convs": 1})


def test_no_space_an_unknown_one_and_one_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        read_joint([])
    with pytest.raises(ConfigError, match="Did you mean 'mobilenet1d'"):
        read_joint(["lstm", "mobilenet1"])
    with pytest.raises(ConfigError, match="'lstm' is given twice"):
        read_joint(["lstm", "mobilenet1d", "lstm"])
