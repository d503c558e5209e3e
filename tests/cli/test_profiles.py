"""`hwnas profiles`: every figure of a target with its source, and bounds where there are no figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas.cli.app import run
from hwnas.hardware import profile as profiles

TABLES = [name for name in profiles.names() if profiles.read_any(name).kind == "table"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, its lines joined: tables break them to fit the terminal."""
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_list_names_every_profile_with_its_figures_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "profiles")
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    for name in profiles.names():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} ") and line.split()[-1] in ("table", "bounds"))
        if name in TABLES:
            assert profiles.read(name).core in line and "Hz" in line and ("pJ/cycle" in line or "mW" in line)
    assert "cortex-a53  1.7 GHz" in text and "128 MHz" in text and "128 KB" in text
    words = " ".join(text.split())
    assert "latency x2 either way, energy x4 (static in-order model, uncalibrated)" in words
    assert "323-374 pJ/cycle" in words


@pytest.mark.parametrize("name", TABLES)
def test_one_profile_is_shown_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(said(capsys, "profiles", name).split())
    part = profiles.read(name)
    for text in (part.description, part.core, part.energy.regulator, part.lookup_table, *part.presets):
        assert text in words
    assert f"0x{part.memory.sram.origin:08X}" in words and "default" in words
    assert ("none modelled" in words) == (part.flash_wait is None)
    assert ("not stated" in words) == (part.uncertainty is None)


def test_a_region_that_no_student_uses_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(said(capsys, "profiles", "stm32f405").split())
    assert "CCM, not used 64 KB at 0x10000000: core-coupled" in words
    assert "SRAM, one block 128 KB at 0x20000000" in words


def test_bounds_are_shown_and_what_others_published_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(said(capsys, "profiles", "apple-watch-s9").split())
    assert words.count("published by others, not reproduced") == 2
    assert "45 ms, 85 mW" in words and "3.2 ms, 8 mW" in words
    assert "0.0038 to 4 ms" in words and "watch-a53" in words


def test_profiles_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(said(capsys, "profiles", "--json"))
    assert [p["name"] for p in content] == profiles.names()
    assert json.loads(said(capsys, "profiles", "watch-a53", "--json"))["uncertainty"]["factor"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profiles", "stm32f40"], ["unknown hardware profile", "Did you mean 'stm32f405'"]),
        (["search", "--profile", "apple-watch-s9"], ["bounds only", "'watch-a53'", "hwnas profiles apple-watch-s9"]),
        (["profile", "--profile", "apple-watch-s9"], ["bounds only", "'watch-a53'"]),
        (["search", "--profile", "stm32f405", "--max-ram-kb", "129"], ["ram_bytes", "132,096", "131,072 in one block"]),
        (["profile", "--profile", "cortex-m4-192k", "--jobs", "0"], ["jobs"]),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, *(["--out", str(tmp_path / "run")] if arguments[0] != "profiles" else [])]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in words:
        assert word in message
    assert not (tmp_path / "run").exists()
