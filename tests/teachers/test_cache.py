"""Cached teacher outputs: computed once, keyed by everything that they depend on, right for every view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import TrainingError
from hwnas.tasks.base import fingerprint
from hwnas.teachers.augment import scale, view
from hwnas.teachers.cache import answer, cached_outputs, predict, student_windows


class Counting(nn.Module):
    """A tiny network that counts its calls."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.calls, self.gain = 0, gain
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        h = self.dropout(x)
        return self.gain * torch.stack([h.mean((1, 2)), h.square().mean((1, 2)), h[:, 0, 0]], dim=1), {"wave": h, "level": h.mean(2)}


@pytest.fixture
def x() -> np.ndarray:
    return scale(np.random.default_rng(0).normal(size=(11, 1, 60)).astype(np.float32))


def test_predict_is_the_module_in_eval_mode_whatever_the_batch(x: np.ndarray) -> None:
    module = Counting().train()
    whole = predict(module, x)
    assert whole.shape == (11, 3) and whole.dtype == np.float32
    assert np.allclose(whole, predict(module, x, batch_size=4), atol=1e-6)
    assert np.allclose(whole[:, 0], x.mean(axis=(1, 2)), atol=1e-6), "no dropout"


def test_second_request_computes_nothing(tmp_path: Path, x: np.ndarray) -> None:
    module = Counting()
    first = cached_outputs(tmp_path, "a", module, x, count=3)
    calls = module.calls
    again = cached_outputs(tmp_path, "a", module, x, count=3)
    assert module.calls == calls == 3 and np.array_equal(first.logits, again.logits) and again.taps == {}


def test_taps_are_kept_beside_the_logits(tmp_path: Path, x: np.ndarray) -> None:
    module = Counting()
    alone = cached_outputs(tmp_path, "a", module, x, count=2)
    found = cached_outputs(tmp_path, "a", module, x, count=2, taps=("wave",))
    assert np.array_equal(found.logits, alone.logits) and list(found.taps) == ["wave"] and len(list(tmp_path.iterdir())) == 2
    assert np.array_equal(found.taps["wave"], np.stack([view(x, number, strength=1.0, seed=0)[0] for number in range(2)]))
    calls = module.calls
    both = cached_outputs(tmp_path, "a", module, x, count=2, taps=("level", "wave"))
    assert module.calls == calls + 2 and both.taps["level"].shape == (2, 11, 1), "only what is missing is computed"
    assert both.taps["level"].dtype == np.float32 and np.array_equal(both.taps["wave"], found.taps["wave"])
    cached_outputs(tmp_path, "a", module, x, count=2, taps=("level", "wave"))
    assert module.calls == calls + 2


def test_a_tap_that_is_not_there_is_named(x: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=r"unknown tap of the teacher 'waves'; choose one of: level, wave\. Did you mean 'wave'"):
        answer(Counting(), x, taps=("waves",))


def test_a_heart_rate_follows_the_rate_of_its_view_and_a_class_does_not(x: np.ndarray) -> None:
    classes, values = np.arange(11) % 3, np.linspace(50, 150, 11, dtype=np.float32)
    windows, same = student_windows(x, classes, count=3, seed=2)
    again, changed = student_windows(x, values, count=3, seed=2)
    assert np.array_equal(windows, again) and np.array_equal(same, np.tile(classes, 3)) and same.dtype == classes.dtype
    rates = np.concatenate([view(x, number, strength=1.0, seed=2)[1] for number in range(3)])
    assert changed.dtype == np.float32 and np.allclose(changed, np.tile(values, 3) * rates)
    assert np.array_equal(changed[:11], values) and not np.allclose(changed[11:22], values)


def test_each_view_holds_the_outputs_of_that_view(tmp_path: Path, x: np.ndarray) -> None:
    module = Counting()
    got = cached_outputs(tmp_path, "a", module, x, count=3, strength=0.7, seed=5).logits
    assert got.shape == (3, 11, 3)
    for number in range(3):
        assert np.array_equal(got[number], predict(module, view(x, number, strength=0.7, seed=5)[0]))
    assert np.array_equal(got[0], predict(module, x))
    rows = predict(module, student_windows(x, np.arange(11), count=3, strength=0.7, seed=5)[0])
    assert np.allclose(got.reshape(-1, 3), rows, atol=1e-6), "windows and outputs stand in one order"


def test_anything_that_matters_changes_the_key(tmp_path: Path, x: np.ndarray) -> None:
    base = {"count": 2, "strength": 1.0, "seed": 0}
    cached_outputs(tmp_path, "a", Counting(), x, **base)  # type: ignore[arg-type]
    moved = x.copy()
    moved[3, 0, 7] += 1e-6
    changes = [{"seed": 1}, {"strength": 0.5}, {"count": 3}]
    variants = [("b", x, {}), ("a", moved, {}), ("a", x[:5], {}), *(("a", x, change) for change in changes)]
    for number, (teacher, windows, change) in enumerate(variants, start=2):
        module = Counting()
        cached_outputs(tmp_path, teacher, module, windows, **{**base, **change})  # type: ignore[arg-type]
        assert module.calls > 0 and len(list(tmp_path.iterdir())) == number


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_file_is_computed_again(tmp_path: Path, x: np.ndarray, content: bytes | None) -> None:
    first = cached_outputs(tmp_path, "a", Counting(), x).logits
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    module = Counting()
    assert np.array_equal(cached_outputs(tmp_path, "a", module, x).logits, first) and module.calls == 1
    assert np.array_equal(cached_outputs(tmp_path, "a", module, x).logits, first) and module.calls == 1


def test_a_file_under_another_key_is_not_believed(tmp_path: Path, x: np.ndarray) -> None:
    cached_outputs(tmp_path, "a", Counting(), x)
    (of_a,) = tmp_path.iterdir()
    right = cached_outputs(tmp_path, "b", Counting(2.0), x).logits
    (of_b,) = set(tmp_path.iterdir()) - {of_a}
    of_b.write_bytes(of_a.read_bytes())
    assert np.array_equal(cached_outputs(tmp_path, "b", Counting(2.0), x).logits, right)


def test_a_diverged_teacher_or_no_windows_is_an_error(tmp_path: Path, x: np.ndarray) -> None:
    with pytest.raises(TrainingError, match="NaN"):
        cached_outputs(tmp_path, "a", Counting(float("nan")), x)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingError, match="no windows"):
        predict(Counting(), x[:0])


def test_fingerprint_sees_type_shape_and_content() -> None:
    a = np.arange(6, dtype=np.int32)
    kinds = [fingerprint(a), fingerprint(a.reshape(2, 3)), fingerprint(a.view(np.float32)), fingerprint(a + 1), fingerprint(a, a)]
    assert len(set(kinds)) == 5
    assert fingerprint(a.reshape(2, 3).T.copy(order="F")) == fingerprint(a.reshape(2, 3).T.copy()), "memory order does not matter"
