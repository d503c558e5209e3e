"""`bench_on`: how a night runs a student on a target, with `hwnas bench`'s own means. Touches what `hwnas.pipeline.bench` touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.errors import IdentityError, UsageError
from hwnas.firmware.board_image import Delay
from hwnas.pipeline.bench import BenchSettings, FlipWeight, bench_student, parse_target
from hwnas.pipeline.progress import Progress
from hwnas.tasks import Windows
from hwnas.validation.config import NightConfig, TargetConfig
from hwnas.validation.nights import Bench, Refused


def parse_fault(text: str) -> Delay | FlipWeight:
    """A fault to be made on purpose, as `--fault` names it; raises UsageError with what there is."""
    kind, *details = text.split(":")
    if kind == "flip-weight" and not details:
        return FlipWeight()
    if kind == "delay" and len(details) == 2 and details[0] and details[1].isdecimal() and int(details[1]):
        return Delay(details[0], int(details[1]))
    raise UsageError(
        f"--fault {text}: no such fault; choose one of: delay:KERNEL:LOOPS (such as delay:hwnas_dense_int16:1000), flip-weight"
    )


def bench_on(config: NightConfig, fault: Delay | FlipWeight | None = None) -> Bench:
    """The `Bench` of a night; raises ConfigError for a target that cannot be named so."""
    places = {target.name: parse_target(target.target) for target in config.targets}

    def bench(folder: Path, target: TargetConfig, windows: Windows, progress: Progress) -> dict[str, Any]:
        settings = BenchSettings(
            windows=len(windows),
            runs=config.windows.runs,
            port=target.port,
            flash=target.flash,
            baud=target.baud,
            timeout_s=target.timeout_s,
            fault=fault,
            profile=target.profile,
        )
        try:
            return bench_student(folder, places[target.name], settings, progress, windows)
        except IdentityError as error:
            raise Refused(str(error)) from error

    return bench
