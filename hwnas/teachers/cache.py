"""Teacher outputs, computed once and kept. Torch and safetensors; writes one file for each set of windows and kind of output.

A cached output belongs to exactly the window it was computed on. So a student sees the windows as they are, or *fixed* augmented
views of them (view 0 the window itself) that are made again identically wherever they are needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from hwnas.errors import TrainingError, unknown
from hwnas.resources import write_bytes
from hwnas.tasks.base import Labels, fingerprint
from hwnas.teachers.augment import Ints, view

Floats = NDArray[np.float32]
BATCH = 256
LOGITS = "logits"


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network answers: raw logits (..., N, K), and taps by name (..., N, C, L) or (..., N, W) as far as they were asked for."""

    logits: Floats
    taps: Mapping[str, Floats] = field(default_factory=dict)


def predict(module: nn.Module, x: Floats, batch_size: int = BATCH) -> Floats:
    """Raw logits (N, K) of `module` in eval mode for windows `x` (N, C, T), on the device where its parameters are.

    Raises:
        TrainingError: no windows, or logits that are not finite.
    """
    return answer(module, x, batch_size=batch_size).logits


def answer(module: nn.Module, x: Floats, *, taps: Sequence[str] = (), batch_size: int = BATCH) -> Outputs:
    """Raw logits (N, K) and the `taps` of `module` in eval mode for windows `x` (N, C, T).

    Raises:
        TrainingError: no windows, a tap that the network does not have, or outputs that are not finite.
    """
    if not len(x):
        raise TrainingError("no windows to compute outputs for; give at least one")
    found: dict[str, Floats] = {}
    module.eval()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        for start in range(0, len(x), batch_size):
            logits, tapped = module(torch.from_numpy(x[start : start + batch_size]).to(device))
            for name in (LOGITS, *taps):
                if name != LOGITS and name not in tapped:
                    known = unknown("tap of the teacher", name, tapped) if tapped else f"the teacher has no taps, '{name}' was asked for"
                    raise TrainingError(f"{known}; choose a distillation that does not compare it")
                part = (logits if name == LOGITS else tapped[name]).float().cpu().numpy()
                if not np.isfinite(part).all():
                    raise TrainingError("the network answers NaN or infinity; it diverged: train it again with a smaller learning rate")
                # filled in place, because a list of parts and their concatenation would need twice the memory
                found.setdefault(name, np.empty((len(x), *part.shape[1:]), dtype=np.float32))[start : start + len(part)] = part
    return Outputs(found.pop(LOGITS), found)


def cached_outputs(
    folder: Path,
    teacher_id: str,
    module: nn.Module,
    x: Floats,
    *,
    taps: Sequence[str] = (),
    count: int = 1,
    strength: float = 1.0,
    seed: int = 0,
    places: Ints | None = None,
) -> Outputs:
    """Raw teacher logits (count, N, K) and `taps` (count, N, ...) for the fixed views of `x` (N, C, T), from `folder` if they are there.

    Where `x` is part of the set that students see views of, `places` (N,) are those of its windows in that set.

    A file is keyed by teacher, windows, views and tap; one that is damaged or belongs to something else is computed again.

    Raises:
        TrainingError: the teacher answers NaN or lacks a tap. RunError: a file cannot be written.
    """
    variants = [] if count == 1 else [strength, seed, None if places is None else fingerprint(places)]
    base = [teacher_id, fingerprint(x), count, *variants]
    keys = {name: json.dumps(base if name == LOGITS else [*base, name]) for name in (LOGITS, *taps)}
    paths = {name: folder / f"outputs-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors" for name, key in keys.items()}
    found = {name: value for name in keys if (value := _read(paths[name], keys[name])) is not None}
    if missing := [name for name in keys if name not in found]:
        made: dict[str, Floats] = {}
        for number in range(count):
            seen, _ = view(x, number, strength=strength, seed=seed, places=places)
            answered = answer(module, seen, taps=[name for name in missing if name != LOGITS])
            for name in missing:
                part = answered.logits if name == LOGITS else answered.taps[name]
                made.setdefault(name, np.empty((count, *part.shape), dtype=np.float32))[number] = part
        for name, value in made.items():
            write_bytes(paths[name], save({LOGITS: value}, {"key": keys[name]}))
        found |= made
    return Outputs(found[LOGITS], {name: found[name] for name in taps})


def student_windows(x: Floats, y: Labels, *, count: int = 1, strength: float = 1.0, seed: int = 0) -> tuple[Floats, Labels]:
    """The views that `cached_outputs` describes, one after the other: (count * N, C, T), and their labels (count * N,).

    A class is that of the window; a value (a heart rate) is multiplied by the rate of the view.
    """
    views = [view(x, number, strength=strength, seed=seed) for number in range(count)]
    rates = np.concatenate([rate for _, rate in views])
    repeated: Labels = np.concatenate([y] * count)
    return np.concatenate([seen for seen, _ in views]), at_rate(repeated, rates)


def at_rate(y: Labels, rate: Floats) -> Labels:
    """Labels (N,) of windows whose rhythm became `rate` (N,) times as fast: values are multiplied, classes stay."""
    return y if y.dtype.kind == "i" else np.asarray(y * rate, dtype=np.float32)


def _read(path: Path, key: str) -> Floats | None:
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return np.asarray(file.get_tensor(LOGITS), dtype=np.float32)
    except (SafetensorError, OSError):
        return None
