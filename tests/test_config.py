"""Strict YAML: what is wrong is named with file and key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.config import Model, load
from hwnas.errors import ConfigError


class Inner(Model):
    kernel: int


class Outer(Model):
    name: str
    inner: Inner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ninner: {kernel: 3, kernal: 4}", r"inner\.kernal.*Did you mean 'kernel'"),
        ("name: a\ninner: {kernel: '3'}", r"inner\.kernel.*got '3'"),
        ("name: a", r"'inner' is missing"),
        ("- a", "expected a mapping"),
        ("name: [", "not valid YAML"),
        ("1: 2", "mapping of names"),
    ],
)
def test_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, Outer)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_file_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.yaml", Outer)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "b.yaml", Outer)


def test_values(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: a\ninner: {kernel: 3}")
    assert load(tmp_path / "c.yaml", Outer) == Outer(name="a", inner=Inner(kernel=3))
