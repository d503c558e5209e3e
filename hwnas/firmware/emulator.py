"""Runs a student's whole Cortex-M4 program in Unicorn: outputs, modelled cycles, stack, RAM and flash. Reads the ELF file.

Instructions are executed exactly; cycles are modelled (`hwnas.firmware.cycles`). "Emulated" in a report means this.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.firmware.build import build
from hwnas.firmware.counting import Call
from hwnas.firmware.machine import CALL_LIMIT_S, Machine, read_elf
from hwnas.quantize.qgraph import Int8


@dataclass(frozen=True)
class Measurement:
    """What one window took, from the program that ran.

    Attributes:
        cycles: from leaving `hwnas_harness_wait` to being back in it, modelled.
        per_operator: (kernel, cycles) of every operator, in order; what is missing to `cycles` is the frame around them.
        stack_bytes: high-water mark of the painted stack, start-up and main included.
        ram_bytes: .data, .bss (arena, input and output included) and stack.
        flash_bytes: code, constants and initial data.
        output: int8 (K,).
    """

    cycles: int
    per_operator: tuple[tuple[str, int], ...]
    stack_bytes: int
    ram_bytes: int
    flash_bytes: int
    output: Int8


def emulate(model_folder: Path) -> Emulator:
    """The program that the C in `model_folder` builds to, booted.

    Raises:
        FirmwareError: it does not compile or does not boot.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-emulate-") as work:
        elf = Path(work) / "model.elf"
        build(model_folder, elf)
        return Emulator(elf)


class Emulator:
    """A booted program, waiting for windows.

    Args:
        elf: what `hwnas.firmware.build.build` wrote.
        limit_s: time after which a window counts as endless.

    Raises:
        FirmwareError: the file is damaged, or the program does not reach its main loop.
    """

    def __init__(self, elf: Path, limit_s: float = CALL_LIMIT_S) -> None:
        self._name = elf
        self._program = program = read_elf(elf)
        self._machine = machine = Machine(program, limit_s=limit_s)
        self._wait = program.address("hwnas_harness_wait")
        self._input, self._output = program.address("hwnas_harness_input"), program.address("hwnas_harness_output")
        self.input_bytes, self.output_bytes = program.sizes["hwnas_harness_input"], program.sizes["hwnas_harness_output"]
        machine.boot(self._wait)
        self._loop, self._booted = machine.link, machine.save()

    def run(self, x: Int8) -> Int8:
        """Outputs int8 (N, K) of windows int8 (N, T, C), each from freshly booted memory.

        Raises:
            FirmwareError: a window of another size, a fault, or a window that does not end; names the window.
        """
        outputs = np.empty((len(x), self.output_bytes), np.int8)
        for index, window in enumerate(x):
            self._window(window, f"window {index}", count=False)
            outputs[index] = self._read_output()
        return outputs

    def measure(self, x: Int8) -> Measurement:
        """Output and cost of one window int8 (T, C), from freshly booted memory; raises as `run`."""
        call = self._window(x, "the window", count=True)
        stack = self._machine.stack_bytes()
        return Measurement(
            call.total, call.operators, stack, self._program.ram_bytes + stack, self._program.flash_bytes, self._read_output()
        )

    def _window(self, window: Int8, what: str, *, count: bool) -> Call:
        if window.dtype != np.int8 or window.size != self.input_bytes:
            raise FirmwareError(
                f"{self._name}: {what} is {window.dtype} of {window.size} values; the program reads int8 of {self.input_bytes}"
            )
        self._machine.restore(self._booted)
        self._machine.write(self._input, window.tobytes())
        try:
            return self._machine.go(self._loop, self._wait, count=count)
        except FirmwareError as error:
            raise FirmwareError(f"{self._name}: {what}: {error}") from error

    def _read_output(self) -> Int8:
        return np.frombuffer(self._machine.read(self._output, self.output_bytes), np.int8)
