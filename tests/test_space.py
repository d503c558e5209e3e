"""Search spaces: every declared choice is reachable, inactive choices do not count, bad files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas import space
from hwnas.errors import ConfigError
from hwnas.resources import folder

SPACE = space.read("mobilenet1d")


def draw(generator: np.random.Generator) -> dict[str, int]:
    return {name: values[generator.integers(len(values))] for name, values in SPACE.choices.items()}


def test_every_declared_choice_is_reached() -> None:
    generator = np.random.default_rng(0)
    reached: dict[str, set[int]] = {name: set() for name in SPACE.choices}
    for _ in range(1500):
        for name, value in SPACE.candidate(draw(generator)).choices:
            reached[name].add(value)
    assert {name: sorted(values) for name, values in reached.items()} == {n: sorted(v) for n, v in SPACE.choices.items()}


def test_size_counts_active_choices() -> None:
    stem, block = 4 * 4 * 2, 9 * 4 * 3 * 3
    assert SPACE.size == stem * sum(block**n for n in (2, 3, 4, 5, 6)) >= 10**5


def test_inactive_choices_do_not_distinguish_candidates() -> None:
    parameters = draw(np.random.default_rng(1)) | {"blocks": 2}
    assert SPACE.candidate(parameters) == SPACE.candidate(parameters | {"block6_kernel": 3, "block3_channels": 128})


def test_nni_format() -> None:
    assert SPACE.to_nni()["stem_stride"] == {"_type": "choice", "_value": [4, 8]}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stem_kernel": 6}, "stem_kernel"), ({"stem_kernal": 7}, "Did you mean 'stem_kernel'"), ({"blocks": 1}, "blocks")],
)
def test_parameters_outside_the_space_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SPACE.candidate(draw(np.random.default_rng(2)) | change)


def test_unknown_space_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mobilenet1d'"):
        space.read("mobilenet1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernel: [7, 11, 15, 23]", "kernal: [7]", r"stem.kernal.*Did you mean 'kernel'"),
        ("blocks: [2, 3, 4, 5, 6]", "blocks: [2, 2]", "distinct"),
        ("blocks: [2, 3, 4, 5, 6]", "blocks: []", "blocks"),
        ("blocks: [2, 3, 4, 5, 6]", "blocks: [0]", "greater than 0"),
        ("blocks: [2, 3, 4, 5, 6]", "blocks: [two]", "blocks"),
        ("family: mobilenet1d", "family: [", "not valid YAML"),
    ],
)
def test_broken_space_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (folder("search_spaces") / "mobilenet1d.yaml").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        space.read(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(caught.value)
