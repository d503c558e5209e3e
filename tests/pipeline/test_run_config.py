"""`run.yaml` there and back, flags over files, limits in the profile's units, and refusals of broken files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

from hwnas.cli import app
from hwnas.errors import ConfigError, UsageError
from hwnas.pipeline import identity, search, workshop
from hwnas.pipeline.config import BudgetConfig, RunConfig, read_run_yaml, write_run_yaml
from hwnas.pipeline.identity import MAY_CHANGE, fingerprint
from hwnas.pipeline.resolve import resolve
from hwnas.pipeline.workshop import Workshop
from hwnas.quantize.ptq import PtqSettings
from hwnas.resources import folder

PROFILE = "cortex-m4-192k"
EVERYTHING: dict[str, Any] = {
    "profile": PROFILE,
    "task": "rhythm-af",
    "data": "/recordings/Übung 3: #1",
    "window_s": 12.5,
    "subjects": 17,
    "windows": 333,
    "spaces": ("mobilenet1d", "lstm"),
    "teacher": "resnet34_1d",
    "teacher_epochs": 7,
    "tuner": "random",
    "service": "nni",
    "trials": 5,
    "generation": 3,
    "students": 2,
    "seed": 11,
    "split_seed": 12,
    "distillation": "dkd:beta=4+relation",
    "cross_fit": 3,
    "effort": "quick",
    "calibration": "percentile",
    "budget": {"preset": "strict", "max_ram_kb": 20.5, "max_flash_kb": 300.0, "max_latency_ms": 1e-3, "max_energy_uj": 1e7},
}


def config(**values: Any) -> RunConfig:
    return RunConfig.model_validate({"profile": PROFILE, **values})


def written(path: Path, run: RunConfig) -> Path:
    write_run_yaml(path, run, fingerprint(run, "d0"), {"torch": "1"})
    return path


@pytest.mark.parametrize("values", [EVERYTHING, {"profile": PROFILE}])
def test_run_yaml_round_trip(tmp_path: Path, values: dict[str, Any]) -> None:
    run = RunConfig.model_validate(values)
    path = written(tmp_path / "run.yaml", run)
    again, before = read_run_yaml(path)
    assert RunConfig.model_validate(again) == run
    assert before == fingerprint(run, "d0")
    assert resolve(path, {}, {}) == run
    content = yaml.safe_load(path.read_text())
    assert set(content) == {"config", "fingerprint", "hwnas", "versions"} and content["versions"] == {"torch": "1"}


def test_every_field_stands_in_run_yaml(tmp_path: Path) -> None:
    assert set(EVERYTHING) == set(RunConfig.model_fields)
    assert set(read_run_yaml(written(tmp_path / "run.yaml", config()))[0]) == set(RunConfig.model_fields)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "run.yaml", RunConfig.model_validate(EVERYTHING))
    flags = {"seed": 0, "task": "rhythm", "trials": None, "window_s": None}
    limits = {"preset": None, "max_ram_kb": 7.0, "max_latency_ms": None}
    run = resolve(path, flags, limits)
    assert (run.seed, run.task) == (0, "rhythm")
    assert run.budget == BudgetConfig(**{**EVERYTHING["budget"], "max_ram_kb": 7.0})
    assert run.model_copy(update={"seed": 11, "task": "rhythm-af", "budget": BudgetConfig(**EVERYTHING["budget"])}) == RunConfig(
        **EVERYTHING
    )


def test_a_plain_file_of_fields_needs_no_profile_where_a_flag_names_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("trials: 3\nbudget: {max_latency_ms: 2}\n")
    assert resolve(path, {"profile": PROFILE}, {"max_ram_kb": 16.0}) == config(trials=3, budget={"max_latency_ms": 2, "max_ram_kb": 16.0})
    with pytest.raises(UsageError, match=r"no hardware profile given.*--profile"):
        resolve(path, {}, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"task": "rythm"}, "Did you mean 'rhythm'"),
        ({"teacher": "resnet18"}, "Did you mean 'resnet18_1d'"),
        ({"spaces": ["lstm", "mobilenet"]}, "Did you mean 'mobilenet1d'"),
        ({"spaces": ["lstm", "lstm"]}, "'lstm' is given twice"),
        ({"spaces": []}, "'spaces'.*at least 1"),
        ({"spaces": "lstm"}, "'spaces'.*got 'lstm'"),
        ({"space": "lstm"}, "'space': unknown key.*Did you mean 'spaces'"),
        ({"profile": "cortex"}, "unknown hardware profile 'cortex'"),
        ({"tuner": "best"}, "'tuner'.*got 'best'"),
        ({"calibration": "kl"}, "'calibration'.*got 'kl'"),
        ({"seed": -1}, "'seed'.*got -1"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_read(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(None, {"profile": PROFILE, **flags}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 3", "'trails': unknown key.*Did you mean 'trials'"),
        ("budget: {max_ram: 3}", r"'budget\.max_ram': unknown key.*Did you mean 'max_ram_kb'"),
        ("budget: 3", "'budget'.*got 3"),
        ("trials: '3'", "'trials'.*got '3'"),
        ("- trials", "expected a mapping"),
        ("config: text", "config"),
        ("config:", "config"),
        ("config: {seed: 1}\nfingerprint: 3", "fingerprint"),
    ],
)
def test_a_broken_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(path, {"profile": PROFILE}, {})
    assert str(path) in str(caught.value)


def test_limits_are_scaled_into_the_units_of_the_profile() -> None:
    run = config(budget={"preset": "strict", "max_ram_kb": 20.5, "max_flash_kb": 300, "max_latency_ms": 2.5, "max_energy_uj": 40})
    assert (run.limits.ram_bytes, run.limits.flash_bytes) == (20_992, 307_200)
    assert (run.limits.latency_us, run.limits.energy_uj) == (2500.0, 40)
    assert run.limits.average_power_uw == config().limits.average_power_uw
    assert config(budget={"preset": "strict"}).limits == config().hardware.limits("strict")
    assert config().limits == config().hardware.limits()


@pytest.mark.parametrize("name", ["max_ram_kb", "max_flash_kb", "max_latency_ms", "max_energy_uj"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_limits_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        resolve(None, {"profile": PROFILE}, {name: value})


def test_limits_can_stand_in_front_json() -> None:
    limits = {"max_ram_kb": 192.0, "max_flash_kb": 1024.0, "max_latency_ms": 1e6, "max_energy_uj": 1e6}
    largest = resolve(None, {"profile": PROFILE}, limits)
    assert json.loads(json.dumps(asdict(largest.limits), allow_nan=False)) == asdict(largest.limits)


ALSO = {"effort": {"recipes"}, "teacher_epochs": {"recipes"}, "distillation": {"recipes"}, "spaces": {"space_content_lstm"}}


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) - {"profile", *MAY_CHANGE}))
def test_a_fingerprint_names_what_changed(name: str) -> None:
    before, now = fingerprint(config(), "d0"), fingerprint(config(**{name: EVERYTHING[name]}), "d0")
    assert {key for key in now if now[key] != before.get(key)} == {name} | ALSO.get(name, set())


def test_a_fingerprint_holds_the_content_of_the_data_and_not_its_path() -> None:
    before = fingerprint(config(data="/old", trials=1), "d0")
    assert before == fingerprint(config(data="/new", trials=2), "d0")
    assert before | {"data": "d1"} == fingerprint(config(), "d1")
    assert set(before) >= set(RunConfig.model_fields) - {"trials"}


def test_a_fingerprint_holds_the_content_of_a_space_file_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = (folder("search_spaces") / "mobilenet1d.yaml").read_text()
    mine.write_text(text)
    spaces = ["lstm", str(mine)]
    before = fingerprint(config(spaces=spaces), "d0")
    assert fingerprint(config(spaces=spaces), "d0") == before
    assert {"space_content_lstm", "space_content_mobilenet1d"} <= before.keys()
    mine.write_text(text.replace("stride: [4, 8]", "stride: [4]"))
    now = fingerprint(config(spaces=spaces), "d0")
    assert {key for key in now if now[key] != before[key]} == {"space_content_mobilenet1d"}


def test_a_fingerprint_holds_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(config(), "d0")
    monkeypatch.setattr(identity, "kernel_set_hash", lambda _: "other")
    assert fingerprint(config(), "d0") == before | {"kernels": "other"}


OTHERWISE = [("DEFAULT", PtqSettings(percentile=99.9)), ("DEFAULT", PtqSettings(bias_correction=False)), ("ALSO_WATCHED", ())]


@pytest.mark.parametrize("changed", OTHERWISE)
def test_a_fingerprint_holds_how_students_are_quantised(monkeypatch: pytest.MonkeyPatch, changed: tuple[str, Any]) -> None:
    before = fingerprint(config(), "d0")
    monkeypatch.setattr(identity, *changed)
    now = fingerprint(config(), "d0")
    assert {key for key in now if now[key] != before[key]} == {"quantisation"}


@pytest.mark.parametrize("calibration", ["mse", "min_max", "percentile"])
def test_the_calibration_reaches_scores_and_what_ships(monkeypatch: pytest.MonkeyPatch, calibration: str) -> None:
    """From the flag of the command line through `run.yaml` to both int8 forms."""
    run = resolve(None, {"profile": PROFILE, "calibration": calibration}, {})
    anything = MagicMock()
    anything.window.length, anything.distillation_temperature = 1000, 1.0
    shop = Workshop(run, anything, anything, anything, anything, anything)
    quantize, ship = MagicMock(), MagicMock()
    monkeypatch.setattr(workshop, "quantize", quantize)
    monkeypatch.setattr(workshop, "ship", ship)
    shop.quantise(anything)
    shop.ship(anything, 0)
    assert quantize.call_args.args[3] == ship.call_args.kwargs["settings"] == PtqSettings(calibration)  # type: ignore[arg-type]


def test_the_command_line_has_a_flag_for_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = MagicMock(side_effect=UsageError("enough"))
    monkeypatch.setattr(search, "run_search", seen)
    assert app.run(["search", "--profile", PROFILE, "--calibration", "min_max", "--quiet"]) == UsageError.exit_code
    assert seen.call_args.args[0] == config(calibration="min_max")


def test_versions_that_began_a_run_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "run.yaml", config())
    assert "continued_with" not in yaml.safe_load(path.read_text())
    write_run_yaml(path, config(trials=9), fingerprint(config(), "d0"), {"torch": "2"})
    content = yaml.safe_load(path.read_text())
    assert (content["versions"], content["continued_with"], content["config"]["trials"]) == ({"torch": "1"}, {"torch": "2"}, 9)


def test_relative_paths_count_from_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shipped = (folder("search_spaces") / "mobilenet1d.yaml").read_text()
    for place in ("here", "there"):
        (tmp_path / place / "mine.yaml").write_text(shipped)
    file = tmp_path / "there" / "run.yaml"
    file.write_text(f"profile: {PROFILE}\ndata: recordings\nspaces: [mine.yaml, lstm]\n")
    of_file = resolve(file, {}, {})
    assert (of_file.data, of_file.spaces) == (str(tmp_path / "there" / "recordings"), (str(tmp_path / "there" / "mine.yaml"), "lstm"))
    of_flags = resolve(file, {"data": "recordings", "spaces": ["lstm", "mine.yaml"]}, {})
    assert (of_flags.data, of_flags.spaces) == (str(tmp_path / "here" / "recordings"), ("lstm", str(tmp_path / "here" / "mine.yaml")))
    assert resolve(file, {"spaces": ["mobilenet1d"]}, {}).spaces == ("mobilenet1d",)


def test_a_finished_teacher_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "there" / "run.yaml"
    file.parent.mkdir()
    file.write_text(f"profile: {PROFILE}\nteacher: from:mine\n")
    assert resolve(file, {}, {}).teacher == f"from:{tmp_path / 'there' / 'mine'}"
    assert resolve(file, {"teacher": "from:mine"}, {}).teacher == f"from:{tmp_path / 'mine'}"


def test_a_loss_that_the_task_lacks_is_refused_before_anything_is_done() -> None:
    with pytest.raises(ConfigError, match="loss 'pulse' needs a task of kind regression"):
        resolve(None, {"profile": PROFILE, "distillation": "pulse"}, {})
    assert resolve(None, {"profile": PROFILE, "distillation": "pulse", "task": "heart_rate"}, {}).distillation == "pulse"
