"""What `bench_student` returns, made up: figures of a student that took exactly what was predicted, and what a test changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas.validation.history import Row, now
from hwnas.validation.verdict import Verdict

PREDICTED_CYCLES = (26_084, 117_497, 23_870, 300)
KERNELS = ("hwnas_conv1d_int16", "hwnas_conv1d_int16", "hwnas_depthwise_conv1d_k5_s4_d1_c48", "hwnas_dense_int16")
CLOCK_MHZ, PJ_PER_CYCLE = 128, 155


def record(
    *,
    cycles: tuple[int, ...] = PREDICTED_CYCLES,
    differing: int = 0,
    ram_bytes: int = 7284,
    accuracy: float = 0.9,
    weights: str = "7fd670466fec30c5",
    kernel_set: str = "725aa0c133304188",
    kind: str = "modelled",
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A record of four operators that took `cycles`."""
    total, predicted = sum(cycles), sum(PREDICTED_CYCLES)
    operators = [
        {
            "index": index,
            "operator": "conv1d",
            "kernel": kernel,
            "weights": "int16",
            "key": f"conv1d int16 {index}",
            "in_length": 1000 >> index,
            "predicted_cycles": expected,
            "cycles": found,
            "us": found / CLOCK_MHZ,
        }
        for index, (kernel, expected, found) in enumerate(zip(KERNELS, PREDICTED_CYCLES, cycles, strict=True))
    ]
    return {
        "student": "49e65bf8252e",
        "profile": "cortex-m4-192k",
        "weights_hash": weights,
        "kernel_set": kernel_set,
        "provenance": "emulated (modelled cycles): cortex-m4",
        "windows": 96,
        "windows_source": "real",
        "windows_differing": differing,
        "first_difference": {"window": 3, "output": 1, "expected": -5, "got": 7} if differing else None,
        "latency": {"kind": kind, "median_us": total / CLOCK_MHZ},
        "cycles": {"kind": kind, "median": total},
        "predicted": {
            "cycles": predicted,
            "latency_us": predicted / CLOCK_MHZ,
            "ram_bytes": 7284,
            "energy_uj": predicted * PJ_PER_CYCLE * 1e-6,
        },
        "memory": {"ram_bytes": ram_bytes},
        "energy": {"kind": "modelled", "energy_uj": total * PJ_PER_CYCLE * 1e-6},
        "metrics": {"af_auc": accuracy},
        "operators": operators,
        "link": None,
        "toolchain": "zig 0.17.0",
        "night": {"golden": 32, "golden_hash": "aa", "metric": "af_auc", "expected": 0.9, "golden_expected": 0.875},
        **(more or {}),
    }


def row(night: int, student: str = "a", target: str = "emulator", verdict: Verdict | None = None, **changes: Any) -> Row:
    """A finished row with such a record."""
    return Row(night, student, target, verdict or Verdict("pass"), record(**changes), now())
