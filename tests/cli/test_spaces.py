"""`hwnas spaces`: the list, and one space in full."""

from __future__ import annotations

import json

import pytest

from hwnas import space
from hwnas.cli.app import run


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_list_names_every_space_with_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "spaces")
    assert max(map(len, text.splitlines())) <= 80
    for name in space.names():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        assert f"{space.read(name).size:.1e}" in line
    content = json.loads(said(capsys, "spaces", "--json"))
    assert {name: c["size"] for name, c in content.items()} == {name: space.read(name).size for name in space.names()}


@pytest.mark.parametrize("name", space.names())
def test_one_space_is_shown_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "spaces", name, "--window-s", "10")
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip() and line[0] != " "}
    for choice in space.read(name).declared:
        assert ", ".join(map(str, choice.values)) in lines[choice.name]
    words = " ".join(text.split())
    assert "500 random candidates" in words and "windows of 10 s" in words and "median" in words
    assert "fit cortex-m4-192k" in words and ("predicted" in words or "unknown:" in words)


def test_a_window_without_rows_says_who_profiles_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(said(capsys, "spaces", "lstm", "--window-s", "17").split())
    assert "unknown: the lookup table of 'cortex-m4-192k' lacks operators" in words
    assert "windows of 10 s and 30 s, and a search profiles the rest" in words


def test_a_condition_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(said(capsys, "spaces", "mobilenet1d").split())
    assert "blockN_dilation 1, 2, 4 blockN_stride is 1 and blockN_kernel is 5 or 9" in words


def test_one_space_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(said(capsys, "spaces", "modality_conv", "--task", "rhythm-af", "--json"))
    assert (content["family"], content["task"], content["random_candidates"]) == ("modality_conv", "rhythm-af", 500)
    assert content["parameters"]["smallest"] < content["parameters"]["median"] < content["parameters"]["largest"]
    assert (content["predicted_share_within_budget"] is None) != (content["no_prediction"] is None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spaces", "mobilenet"], "Did you mean 'mobilenet1d'"),
        (["spaces", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["spaces", "lstm", "--profile", "cortex-m4-192"], "Did you mean 'cortex-m4-192k'"),
        (["spaces", "lstm", "--task", "rythm"], "Did you mean 'rhythm'"),
        (["spaces", "lstm", "--window-s", "nan"], "--window-s: got nan"),
        (["spaces", "lstm", "--window-s", "inf"], "--window-s: got inf"),
        (["spaces", "--window-s", "30"], "--window-s: for one space only; name it, as in `hwnas spaces NAME`"),
        (["spaces", "--profile", "stm32f405", "--task", "rhythm", "--json"], "--profile, --task: for one space only"),
    ],
)
def test_what_cannot_be_answered_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err and not captured.out
