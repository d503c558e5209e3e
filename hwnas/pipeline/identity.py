"""What makes a run this run: the fingerprint that a resumption must match. Reads the files that the configuration names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from hwnas.firmware.build import kernel_set_hash
from hwnas.firmware.cores import core
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import task_of
from hwnas.pipeline.recipes import full_recipe, pretrain_recipe, qat_recipe, short_recipe, teacher_recipe, views
from hwnas.quantize.choice import ALSO_WATCHED
from hwnas.quantize.ptq import DEFAULT
from hwnas.space.joint import read_joint

# More trials extend a run, and recordings that were moved are still the same recordings (their content is in the fingerprint).
MAY_CHANGE = ("trials", "data")
REFERENCE = 1000, 1.0  # any samples and temperature: recipes are compared, not used


def fingerprint(config: RunConfig, data_hash: str) -> dict[str, str]:
    """Every field of the configuration that may not change, and hashes of what decides with them: files, recipes, quantisation, kernels."""
    fields = {name: json.dumps(value, sort_keys=True) for name, value in config.model_dump().items() if name not in MAY_CHANGE}
    recipes = [
        pretrain_recipe(config, REFERENCE[0]),
        teacher_recipe(config, REFERENCE[0]),
        short_recipe(config, *REFERENCE),
        full_recipe(config, *REFERENCE),
        qat_recipe(config, *REFERENCE),
    ]
    spaces = {f"space_content_{space.family}": _digest(space.model_dump()) for space in read_joint(config.spaces).spaces}
    return fields | {
        "data": data_hash,
        **spaces,
        "profile_content": _digest(config.hardware.model_dump()),
        "quantisation": _digest(asdict(DEFAULT) | {"loss_allowed": task_of(config.task).loss_allowed, "watched": ALSO_WATCHED}),
        "recipes": _digest([recipe.to_dict() for recipe in recipes] + [views(config)]),
        "kernels": kernel_set_hash(core(config.hardware.core)),
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
