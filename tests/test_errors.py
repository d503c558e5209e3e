"""Messages name what was given, what exists and what is close; exit codes follow the tree."""

from __future__ import annotations

import inspect

import pytest

from hwnas import errors
from hwnas.errors import ConfigError, HwnasError, UsageError, lookup, unknown

TABLE = {"resnet18_1d": 18, "resnet34_1d": 34}


def test_lookup_finds() -> None:
    assert lookup(TABLE, "resnet34_1d", "teacher") == 34


def test_lookup_names_choices_and_the_close_match() -> None:
    with pytest.raises(UsageError) as caught:
        lookup(TABLE, "resnet43_1d", "teacher")
    message = str(caught.value)
    assert "unknown teacher 'resnet43_1d'" in message
    assert all(name in message for name in TABLE)
    assert "Did you mean 'resnet34_1d'?" in message
    assert caught.value.exit_code == 2


def test_no_hint_without_a_close_match() -> None:
    message = unknown("profile", "zzz", ["cortex-m4-192k"])
    assert "Did you mean" not in message
    assert "cortex-m4-192k" in message


def test_choices_are_sorted() -> None:
    assert "choose one of: a, b, c." in unknown("thing", "x", ["c", "a", "b"])


def test_configuration_mistakes_are_usage_errors() -> None:
    assert issubclass(ConfigError, UsageError)
    assert ConfigError("x").exit_code == 2


def test_the_drawn_tree_is_the_real_one() -> None:
    classes = {name for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, HwnasError)}
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.replace("`", " ").replace("|", " ").split() if word.endswith("Error")}
    assert classes == drawn
    assert all(getattr(errors, name).exit_code in (1, 2) for name in classes)
