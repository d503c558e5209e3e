"""Teacher outputs, computed once and kept. Torch and safetensors; writes one file for each set of windows.

A cached output belongs to exactly the window it was computed on. So a student sees the windows as they are, or *fixed* augmented
views of them (view 0 the window itself) that are made again identically wherever they are needed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from hwnas.errors import TrainingError
from hwnas.resources import write_bytes
from hwnas.tasks.base import fingerprint
from hwnas.teachers.augment import view

Floats = NDArray[np.float32]
BATCH = 256


def predict(module: nn.Module, x: Floats, batch_size: int = BATCH) -> Floats:
    """Raw logits (N, K) of `module` in eval mode for windows `x` (N, C, T).

    Raises:
        TrainingError: no windows, or logits that are not finite.
    """
    if not len(x):
        raise TrainingError("no windows to compute outputs for; give at least one")
    module.eval()
    with torch.inference_mode():
        parts = [module(torch.from_numpy(x[i : i + batch_size]))[0].numpy() for i in range(0, len(x), batch_size)]
    logits: Floats = np.concatenate(parts).astype(np.float32)
    if not np.isfinite(logits).all():
        raise TrainingError("the network answers NaN or infinity; it diverged: train it again with a smaller learning rate")
    return logits


def cached_logits(
    folder: Path, teacher_id: str, module: nn.Module, x: Floats, *, count: int = 1, strength: float = 1.0, seed: int = 0
) -> Floats:
    """Raw teacher logits (count, N, K) for the fixed views of `x` (N, C, T), read from `folder` where they are there already.

    The file is keyed by teacher, windows and views; one that is damaged or belongs to something else is computed again.

    Raises:
        TrainingError: the teacher answers NaN. RunError: the file cannot be written.
    """
    key = json.dumps([teacher_id, fingerprint(x), count, strength if count > 1 else 0.0, seed if count > 1 else 0])
    path = folder / f"outputs-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    found = _read(path, key)
    if found is not None:
        return found
    logits = np.stack([predict(module, view(x, number, strength=strength, seed=seed)) for number in range(count)])
    write_bytes(path, save({"logits": logits}, {"key": key}))
    return logits


def student_windows(x: Floats, *, count: int = 1, strength: float = 1.0, seed: int = 0) -> Floats:
    """The views that `cached_logits` describes, one after the other: (count * N, C, T); labels are repeated `count` times."""
    return np.concatenate([view(x, number, strength=strength, seed=seed) for number in range(count)])


def _read(path: Path, key: str) -> Floats | None:
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return np.asarray(file.get_tensor("logits"), dtype=np.float32)
    except (SafetensorError, OSError):
        return None
