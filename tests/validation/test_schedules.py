"""Files for systemd, cron and GitHub Actions: they parse, name the right paths, and hold odd ones or refuse them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hwnas.errors import UsageError
from hwnas.validation.config import NightConfig, read
from hwnas.validation.schedule import SCHEDULES, schedule

FOLDERS = ["plain", "with blank", "50% off", "dollar $HOME", "a#b;c&d"]


def made(folder: Path, name: str) -> tuple[Path, NightConfig, list[str]]:
    """Path of a configuration in a folder of that name, the configuration, and the command that runs it."""
    place = folder / name
    place.mkdir()
    path = place / "nightly.yaml"
    path.write_text("students: [s]\ntargets: [{name: e, target: emulator}]\n")
    return path, read(path), [sys.executable, "-m", "hwnas", "validate", "--config", str(path)]


@pytest.mark.parametrize("name", FOLDERS)
def test_systemd(tmp_path: Path, name: str) -> None:
    path, config, command = made(tmp_path, name)
    text = schedule("systemd", path, config)
    service, timer = text[: text.index("# ~", 1)], text[text.index("# ~", 1) :]
    units = []
    for part in (service, timer):
        parser = configparser.RawConfigParser()
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(part)
        units.append(parser)
    words = shlex.split(units[0]["Service"]["ExecStart"], posix=True)
    assert [word.replace("%%", "%").replace("$$", "$") for word in words] == command
    assert "%" not in service.replace("%%", "")
    assert units[0]["Service"]["WorkingDirectory"].replace("%%", "%") == str(path.parent)
    assert units[0]["Service"]["Type"] == "oneshot" and units[1]["Timer"]["Persistent"] == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("name", FOLDERS)
def test_systemd_accepts_its_files(tmp_path: Path, name: str) -> None:
    path, config, _ = made(tmp_path, name)
    text = schedule("systemd", path, config)
    cut = text.index("# ~", 1)
    files = [tmp_path / name for name in SCHEDULES["systemd"]]
    for file, part in zip(files, (text[:cut], text[cut:]), strict=True):
        file.write_text(part)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["systemd-analyze", "verify", "--user", *map(str, files)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_cron(tmp_path: Path, name: str) -> None:
    path, config, command = made(tmp_path, name)
    (line,) = [line for line in schedule("cron", path, config).splitlines() if not line.startswith("#")]
    fields, rest = line.split(" ", 5)[:5], line.split(" ", 5)[5]
    assert fields == ["30", "2", "*", "*", "*"]
    assert "%" not in rest.replace("\\%", "")
    words = shlex.split(rest.replace("\\%", "%"))
    log, summary = str(path.parent / "validate.log"), str(Path(config.out) / "summary.md")
    assert words[:6] == ["cd", str(path.parent), "&&", "rm", "-f", summary]
    assert words[6:] == ["&&", *command, "--quiet", ">>", log, "2>&1", "||", "{", "tail", "-n", "5", log + ";", "cat", summary + ";", "}"]


@pytest.mark.parametrize("name", FOLDERS)
def test_cron_prints_only_where_a_night_did_not_pass(tmp_path: Path, name: str) -> None:
    path, config, command = made(tmp_path, name)
    (line,) = [line for line in schedule("cron", path, config).splitlines() if not line.startswith("#")]
    told = line.split(" ", 5)[5].replace("\\%", "%")
    Path(config.out).mkdir()
    for code, printed in ((0, ""), (1, "why\ntonight\n")):
        (path.parent / "validate.log").unlink(missing_ok=True)
        (Path(config.out) / "summary.md").write_text("yesterday\n")
        stand_in = f"(pwd | grep -q {shlex.quote(name)} && echo why && echo tonight > {shlex.quote(config.out)}/summary.md && exit {code})"
        line = told.replace(" ".join(map(shlex.quote, command)) + " --quiet", stand_in)
        assert stand_in in line
        assert subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, cwd="/").stdout == printed


@pytest.mark.parametrize("name", FOLDERS)
def test_github(tmp_path: Path, name: str) -> None:
    path, config, command = made(tmp_path, name)
    workflow = yaml.safe_load(schedule("github", path, config))
    steps = workflow["jobs"]["validate"]["steps"]
    assert workflow["jobs"]["validate"]["runs-on"] == "self-hosted"
    summary = str(Path(config.out) / "summary.md")
    assert [shlex.split(line) for line in steps[0]["run"].splitlines()] == [
        ["cd", str(path.parent)],
        ["rm", "-f", summary],
        [*command, "--quiet"],
    ]
    assert shlex.split(steps[1]["run"])[:2] == ["cat", summary]
    assert steps[2]["with"]["path"] == config.out
    assert [step.get("if") for step in steps] == [None, "always()", "always()"]
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_nothing_is_left_to_fill_in(tmp_path: Path, kind: str) -> None:
    text = schedule(kind, *made(tmp_path, "plain")[:2])
    assert "@" not in text.replace("upload-artifact@", "") and text.endswith("\n")


@pytest.mark.parametrize("name", ["quote ' here", 'double " here', "back\\slash"])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_paths_that_no_file_can_hold_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path, config, _ = made(tmp_path, name)
    with pytest.raises(UsageError, match="quotes, backslashes or control characters"):
        schedule(kind, path, config)


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown schedule 'systemdd'.*Did you mean 'systemd'"):
        schedule("systemdd", *made(tmp_path, "plain")[:2])
