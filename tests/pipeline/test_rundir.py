"""Run directories: which folders are taken, which are refused, and what a resumption may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import RunError, UsageError
from hwnas.pipeline.config import RunConfig, read_run_yaml
from hwnas.pipeline.rundir import RunDirectory, check_free, claim, default_root, read_json, versions
from hwnas.search.trial_log import TrialLog

PROFILE = "cortex-m4-192k"


def config(**values: Any) -> RunConfig:
    return RunConfig.model_validate({"profile": PROFILE, **values})


def test_a_new_folder_is_claimed_with_its_configuration(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "run"
    run = claim(root, config(seed=3), "d0", resume=False)
    assert run.root == root and [p.name for p in root.iterdir()] == ["run.yaml"]
    values, before = read_run_yaml(run.run_yaml)
    assert RunConfig.model_validate(values) == config(seed=3) and before["data"] == "d0"


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    check_free(tmp_path, resume=False)
    check_free(tmp_path, resume=True)
    check_free(tmp_path / "absent", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_content_or_a_file_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match=r"is no run of hwnas.*--out"):
            claim(place, config(), "d0", resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_run_is_taken_up_only_when_asked(tmp_path: Path) -> None:
    claim(tmp_path, config(), "d0", resume=False)
    before = (tmp_path / "run.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"already holds a run.*--resume.*--out"):
        claim(tmp_path, config(), "d0", resume=False)
    claim(tmp_path, config(), "d0", resume=True)
    assert (tmp_path / "run.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed was 0, now 4"),
        ({"split_seed": 4}, "split_seed was 0, now 4"),
        ({"task": "rhythm-af"}, 'task was "rhythm", now "rhythm-af"'),
        ({"tuner": "random"}, 'tuner was "pareto", now "random"'),
        ({"effort": "quick"}, 'effort was "normal", now "quick"'),
        ({"service": "nni"}, 'service was "local", now "nni"'),
        ({"students": 3}, "students was 8, now 3"),
        ({"generation": 3}, "generation was 8, now 3"),
        ({"window_s": 10.0}, "window_s was null, now 10.0"),
        ({"budget": {"max_ram_kb": 12.0}}, r'budget was .*"max_ram_kb": null.*, now .*"max_ram_kb": 12\.0'),
        ({"seed": 4, "teacher": "resnet34_1d"}, 'teacher was "resnet18_1d", now "resnet34_1d", seed was 0, now 4'),
    ],
)
def test_a_resumption_with_another_configuration_says_what_changed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    claim(tmp_path, config(), "d0", resume=False)
    before = (tmp_path / "run.yaml").read_bytes()
    with pytest.raises(UsageError, match=message):
        claim(tmp_path, config(**change), "d0", resume=True)
    assert (tmp_path / "run.yaml").read_bytes() == before


def test_a_resumption_with_other_recordings_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, config(data="/old/place"), "d0", resume=False)
    with pytest.raises(UsageError, match="data was d0, now d1"):
        claim(tmp_path, config(data="/old/place"), "d1", resume=True)


def test_more_trials_and_moved_recordings_may_resume(tmp_path: Path) -> None:
    claim(tmp_path, config(data="/old/place"), "d0", resume=False)
    later = config(data="/new/place", trials=99)
    run = claim(tmp_path, later, "d0", resume=True)
    assert RunConfig.model_validate(read_run_yaml(run.run_yaml)[0]) == later


def test_fewer_trials_than_are_scored_are_refused(tmp_path: Path) -> None:
    run = claim(tmp_path, config(trials=5), "d0", resume=False)
    with TrialLog.create(run.trials, {}) as log:
        for number in range(3):
            log.append("scored", id=str(number))
    with pytest.raises(UsageError, match=r"holds 3 scored candidates, asked for 2; give at least --trials 3"):
        claim(tmp_path, config(trials=2), "d0", resume=True)
    claim(tmp_path, config(trials=3), "d0", resume=True)


def test_what_a_killed_write_left_is_no_obstacle_and_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".run.yaml.x1y2").write_text("half")
    claim(tmp_path, config(), "d0", resume=False)
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / ".card.json.a_b").write_text("half")
    (tmp_path / "teacher" / ".hidden").write_text("mine")
    claim(tmp_path, config(), "d0", resume=True)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [".hidden", "run.yaml"]


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = Path("runs") / f"rhythm-{PROFILE}"
    assert default_root(config(), resume=False) == default_root(config(), resume=True) == base
    base.mkdir(parents=True)
    assert default_root(config(), resume=False) == base.with_name(f"{base.name}-2")
    assert default_root(config(), resume=True) == base
    base.with_name(f"{base.name}-2").mkdir()
    assert default_root(config(), resume=False) == base.with_name(f"{base.name}-3")
    assert default_root(config(), resume=True) == base.with_name(f"{base.name}-2")
    assert default_root(config(task="rhythm-af"), resume=True) == Path("runs") / f"rhythm-af-{PROFILE}"


def test_json_objects_round_trip_and_nothing_else_is_read(tmp_path: Path) -> None:
    run, path = RunDirectory(tmp_path), tmp_path / "x.json"
    run.write_json(path, {"a": [1, 0.1], "b": None})
    assert read_json(path) == {"a": [1, 0.1], "b": None}
    with pytest.raises(ValueError, match="JSON"):
        run.write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, 0.1], "b": None}
    for text in ("[1]", "{", '"a"'):
        path.write_text(text)
        with pytest.raises(RunError, match=r"x\.json"):
            read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"x\.json: cannot be read"):
        read_json(path)
    with pytest.raises(RunError, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")


def test_versions_name_what_figures_depend_on() -> None:
    found = versions()
    assert {"python", "torch", "numpy", "ziglang", "unicorn", "git"} <= set(found)
    assert found["torch"] != "absent" and found["python"].startswith("3.")
