"""`EmulatedBoard`: the emulator behind the interface of a board. Builds a student's program in a temporary folder; keeps no file.

Outputs are those of the executed program. It has no counter: ticks are modelled cycles of the core, waits for flash as the profile
states them included. Watching a run for its cycles takes some ten times as long as the run, so ticks are 0 where operators are not asked
for.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.firmware.board import Counter, Identity, Run, Usage
from hwnas.firmware.build import toolchain
from hwnas.firmware.core import Core
from hwnas.firmware.counting import Watch
from hwnas.firmware.emulator import Emulator, Measurement
from hwnas.firmware.frames import PAYLOAD_MAX_BYTES, PROTOCOL
from hwnas.firmware.link import Trouble
from hwnas.hardware.profile import Profile
from hwnas.quantize.qgraph import Int8

BOARD = "Unicorn"
MACRO = re.compile(r'^#define HWNAS_MODEL_(\w+) "?([^"\n]*)"?$', re.MULTILINE)


class EmulatedBoard:
    """A student's program in the emulator, as a board.

    Args:
        emulator: the booted program.
        model_folder: the exported C that it was built from; its model.h says who it is.
        profile: whose clock and waits for flash turn cycles of the core into ticks.
        constants_bytes: weights, parameters and layer table, which a profile may stream from memory.
        kernel_set: of the kernels in the folder.

    Raises:
        FirmwareError: model.h cannot be read.
    """

    def __init__(
        self, emulator: Emulator, model_folder: Path, part: Core, profile: Profile, *, constants_bytes: int, kernel_set: str
    ) -> None:
        said = _macros(model_folder / "model.h")
        self._emulator, self._profile, self._constants_bytes = emulator, profile, constants_bytes
        # Flash traffic is watched only where it costs something: it takes three times as long again.
        self._watch = Watch.READS if profile.flash_wait else Watch.CYCLES
        self._runs = 0
        self.trouble = Trouble()
        self.measured: Measurement | None = None  # the last watched run
        try:
            self.identity = Identity(
                protocol=PROTOCOL,
                payload_max_bytes=PAYLOAD_MAX_BYTES,
                clock_hz=profile.clock_hz,
                counter=Counter.NONE,
                counter_hz=profile.clock_hz,
                input_bytes=emulator.input_bytes,
                output_bytes=emulator.output_bytes,
                arena_bytes=int(said["ARENA_BYTES"]),
                operators=int(said["LAYERS"]),
                board=f"{BOARD}, {part.name}",
                toolchain=toolchain(part),
                kernel_set=kernel_set,
                graph_hash=said["GRAPH_HASH"],
                weights_hash=said["WEIGHTS_HASH"],
                note="",
            )
        except (KeyError, ValueError) as error:
            raise FirmwareError(f"{model_folder / 'model.h'} lacks or garbles {error}; export the student again") from error

    def run(self, window: Int8, *, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> Run:
        """As of `Board`. Every run starts from freshly booted memory and is the same, so that it is executed once whatever is asked."""
        self._runs += warm_up + repeats + operators
        if not operators:
            return Run(self._emulator.run(window[np.newaxis])[0], (0,) * repeats)
        found = self.measured = self._emulator.measure(window, self._watch)
        cycles = self._profile.cycles(found.cycles, found.flash_read_bytes, found.fetch_lines, self._constants_bytes)
        each = (self._profile.cycles(run.cycles, run.flash_read_bytes, run.fetch_lines, 0) for _, run in found.per_operator)
        return Run(found.output, (cycles,) * repeats, tuple(each))

    def usage(self) -> Usage:
        """As of `Board`; nobody watches the arena, and the stack is that of the last watched run."""
        return Usage(self.measured.stack_bytes if self.measured else None, None, 0, 0, self._runs)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _macros(header: Path) -> dict[str, str]:
    try:
        return dict(MACRO.findall(header.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise FirmwareError(f"cannot read {header}: {error}; export the student again") from error
