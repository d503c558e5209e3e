"""Command line and configuration file -> `RunConfig`, with every name looked up before anything is done. Reads YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.config import parse
from hwnas.distill import read
from hwnas.errors import UsageError
from hwnas.pipeline.config import RunConfig, read_run_yaml
from hwnas.pipeline.data import task_of
from hwnas.space.joint import read_joint
from hwnas.teachers import FROM, members


def resolve(config: Path | None, flags: Mapping[str, Any], limits: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run: the file's values, with the flags that were given winning over them.

    Relative paths become absolute: those of the file count from the file, those of flags from the current folder.

    Raises:
        ConfigError, UsageError: an unknown key, profile, task, space, teacher, loss or preset, a loss that the task cannot be trained
            with, or no profile at all.
    """
    values = _absolute(read_run_yaml(config)[0], config.parent) if config else {}
    values |= _absolute({name: value for name, value in flags.items() if value is not None}, Path.cwd())
    budget = dict(values.get("budget", {})) | {name: value for name, value in limits.items() if value is not None}
    if "profile" not in values:
        raise UsageError("no hardware profile given; name one with --profile (`hwnas profiles` lists them)")
    run = parse(values | {"budget": budget}, RunConfig, str(config or "command line"))
    read(run.distillation).allow(task_of(run.task).kind)
    members(run.teacher)
    read_joint(run.spaces)
    _ = run.limits  # an unknown profile or preset is refused here
    return run


def _absolute(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """`values` with the paths among them counted from `base`."""
    found = dict(values)
    if isinstance(data := found.get("data"), str):
        found["data"] = str((base / data).resolve())
    if isinstance(teacher := found.get("teacher"), str) and teacher.startswith(FROM):
        found["teacher"] = FROM + str((base / teacher.removeprefix(FROM)).resolve())
    if isinstance(spaces := found.get("spaces"), list | tuple):
        found["spaces"] = [str((base / space).resolve()) if _is_file(space) else space for space in spaces]
    return found


def _is_file(space: Any) -> bool:
    return isinstance(space, str) and space.endswith((".yaml", ".yml"))
