"""Which optimisation serves each Cortex-M4 kernel best. Prints a table; what it finds goes into `hwnas.firmware.build.KERNEL_FLAGS`.

Every kernel is built with each option and run in the emulator on a few shapes (modelled cycles). A kernel's figure is the geometric
mean of its cycles relative to -O2.
"""

from __future__ import annotations

import math
from collections import defaultdict

from rich.console import Console
from rich.table import Table

from hwnas.firmware.build import OPTIMISATION
from hwnas.firmware.cores import core
from hwnas.firmware.profiler import Profiler
from hwnas.hardware.ops import OpKey
from hwnas.resources import folder

OPTIONS = ("-Os", "-O2")  # zig takes -O1 and -O3 for -O2
CONVOLUTIONS = [(16, 32), (32, 32), (12, 20), (6, 10)]
SHAPES: list[tuple[OpKey, int]] = [
    *((OpKey("pointwise", 1, 1, 1, a, b, w), 100) for a, b in CONVOLUTIONS for w in ("int8", "int16")),
    *((OpKey("conv1d", 5, 1, 1, a, b, w), 100) for a, b in CONVOLUTIONS for w in ("int8", "int16")),
    *((OpKey("conv1d", k, 2, 1, 1, 16, "int16"), 300) for k in (3, 5, 7)),
    *((OpKey("depthwise_conv1d", 4, s, 2, 16, 16, "int16"), 100) for s in (1, 2)),  # no function of their own
    *((OpKey("dense", 1, 1, 1, a, b, w), 1) for a, b in ((64, 4), (256, 64), (30, 5)) for w in ("int8", "int16")),
    *((OpKey("lstm", 1, 1, 1, 16, u, w), 20) for u in (16, 64) for w in ("int8", "int16")),
    *((OpKey(name, 1, 1, 1, channels, channels, "none"), 200) for name in ("add", "global_avg_pool") for channels in (16, 5)),
    *((OpKey(name, 2, 2, 1, channels, channels, "none"), 200) for name in ("avg_pool1d", "max_pool1d") for channels in (16, 5)),
    *((OpKey("concat", 1, 1, 1, channels, 2 * channels, "none"), 200) for channels in (16, 5)),
    (OpKey("split", 1, 1, 1, 4, 1, "none"), 256),
    (OpKey("join", 1, 1, 1, 16, 64, "none"), 32),
]


def main() -> None:
    """Build, run, print."""
    files = [file.name for file in (folder("firmware_bench") / "kernels").glob("*.c")]
    cycles: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    code_bytes: dict[str, dict[str, int]] = defaultdict(dict)
    for option in OPTIONS:
        profiler = Profiler(core("cortex-m4"), kernel_flags=dict.fromkeys(files, option))
        for key, length in SHAPES:
            name, size = profiler.kernel(key)
            cycles[name][option].append(profiler.profile(key, length).cycles)
            code_bytes[name][option] = size
    table = Table("kernel", "best", *OPTIONS, title="cycles relative to -O2, bytes of code (emulated, modelled cycles)")
    for name, runs in sorted(cycles.items()):
        base = runs[OPTIMISATION]
        ratios = {o: math.exp(sum(math.log(a / b) for a, b in zip(runs[o], base, strict=True)) / len(base)) for o in OPTIONS}
        best = min(OPTIONS, key=lambda o: (round(ratios[o], 3), code_bytes[name][o]))
        table.add_row(name, best, *(f"{ratios[o]:.3f}, {code_bytes[name][o]}" for o in OPTIONS))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
