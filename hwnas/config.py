"""Strict YAML -> frozen typed models. Reads files; writes none; no torch.

Every YAML file of the project is described by a `Model`: an unknown key, a wrong type or a value out of range raises
ConfigError with the file and the path of the key, before anything is trained.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hwnas.errors import ConfigError, unknown

M = TypeVar("M", bound="Model")


class Model(BaseModel):
    """Base of all configuration models: frozen, strict types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: unreadable file, broken YAML, or anything but a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected a mapping of names to values, got {type(content).__name__}")
    return content


def load(path: Path, model: type[M]) -> M:
    """The YAML file `path` as `model`; raises ConfigError naming file, key path, what was got and what is allowed."""
    return parse(read_yaml(path), model, str(path))


def parse(content: dict[str, Any], model: type[M], where: str) -> M:
    """`content` as `model`; `where` names its origin in error messages."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_sentence(detail, model) for detail in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def _sentence(detail: Any, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        owner = _owner(model, detail["loc"][:-1])
        return f"at '{path}': " + unknown("key", str(detail["loc"][-1]), owner.model_fields if owner else ())
    if detail["type"] == "missing":
        return f"key '{path}' is missing"
    return f"at '{path}': {detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}"


def _owner(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model class that a key path leads to, for listing the keys allowed there."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        if part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, typing.get_args(annotation)) if m), None)
