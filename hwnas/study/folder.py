"""The folder of a study: `study.yaml`, the settings that a resumption must match. Reads and writes that file; no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from hwnas import __version__
from hwnas.config import read_yaml
from hwnas.errors import ConfigError, UsageError
from hwnas.pipeline.rundir import versions
from hwnas.resources import write_text

FILE = "study.yaml"


def settings_of(out: Path) -> dict[str, Any]:
    """The settings of the study in `out`; empty where there is none; raises ConfigError for a file that is none."""
    path = out / FILE
    if not path.exists():
        return {}
    values = read_yaml(path).get("config")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: 'config' must be a mapping, got {values!r}; restore the file or choose another --out")
    return values


def check_free(out: Path, *, resume: bool) -> None:
    """Raise UsageError where `out` holds a study that is not to be continued, or something else."""
    if (out / FILE).exists():
        if not resume:
            raise UsageError(f"{out} already holds a study; continue it with --resume, or choose another folder with --out")
    elif out.exists() and (not out.is_dir() or any(path.name[0] != "." for path in out.iterdir())):
        raise UsageError(f"{out} exists and is no study of hwnas; choose another folder with --out")


def claim(out: Path, command: str, values: Mapping[str, Any], *, resume: bool, may_change: Collection[str] = ()) -> None:
    """Make `out` the folder of this study, or take it up again.

    Raises:
        UsageError: it is taken (`check_free`), or what is there was made by another command or with other settings.
        RunError: it cannot be written.
    """
    check_free(out, resume=resume)
    path = out / FILE
    if path.exists():
        content, before = read_yaml(path), settings_of(out)
        if content.get("command") != command:
            raise UsageError(f"{out} holds a study of `hwnas {content.get('command')}`; choose another folder with --out")
        changed = [name for name in values if name not in may_change and before.get(name) != values[name]]
        if changed:
            details = ", ".join(f"{name} was {before.get(name)!r}, now {values[name]!r}" for name in changed)
            raise UsageError(f"{out} cannot be continued with other settings: {details}; use the old values or a new --out")
    head = f"# What this study was made with; `hwnas {command} --resume --out` on this folder continues it.\n"
    content = {"command": command, "config": dict(values), "hwnas": __version__, "versions": versions()}
    write_text(path, head + yaml.safe_dump(content, sort_keys=False))
