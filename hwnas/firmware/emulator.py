"""Runs a student's whole program in Unicorn: outputs, modelled cycles, stack, RAM and flash. Reads the ELF file.

Instructions are executed exactly; cycles are modelled (`Core.cost_model`). "Emulated" in a report means this.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.firmware.build import build
from hwnas.firmware.core import Core
from hwnas.firmware.counting import Call, OperatorRun, Watch, together
from hwnas.firmware.faults import DELAYED, Delay, Flip, flip_weight
from hwnas.firmware.machine import CALL_LIMIT_S, Machine, read_elf
from hwnas.graph import Graph
from hwnas.hardware.ops import calls
from hwnas.hardware.profile import Memory
from hwnas.quantize.qgraph import Int8


@dataclass(frozen=True)
class Measurement:
    """What one window took, from the program that ran.

    Attributes:
        cycles: from leaving `hwnas_harness_wait` to being back in it, modelled.
        per_operator: (kernel, run) of every call of a kernel, in order; what is missing to the totals is the frame around them.
        stack_bytes: high-water mark of the painted stack, start-up and main included.
        ram_bytes: .data, .bss (arena, input and output included) and stack.
        flash_bytes: code, constants and initial data.
        flash_read_bytes: read from flash as data.
        fetch_lines: lines of 16 bytes of flash that execution entered.
        unaligned: accesses that the core splits; known where alignment was watched.
        output: int8 (K,).
    """

    cycles: int
    per_operator: tuple[tuple[str, OperatorRun], ...]
    stack_bytes: int
    ram_bytes: int
    flash_bytes: int
    flash_read_bytes: int
    fetch_lines: int
    unaligned: int
    output: Int8

    def per_node(self, graph: Graph) -> list[tuple[str, OperatorRun]]:
        """(kernel, run) of every node of the program's graph after the input, its modalities together.

        Raises:
            FirmwareError: the program is of another graph.
        """
        counts = [calls(node.op, graph.in_shape(node)) for node in graph.nodes[1:]]
        if sum(counts) != len(self.per_operator):
            raise FirmwareError(f"the program calls {len(self.per_operator)} kernels, graph {graph.hash} needs {sum(counts)}")
        rest = iter(self.per_operator)
        found = []
        for count in counts:
            rows = list(islice(rest, count))
            found.append((rows[0][0], together(run for _, run in rows)))
        return found


def emulate(model_folder: Path, core: Core, memory: Memory, *, delay: Delay | None = None, flip: Flip | None = None) -> Emulator:
    """The program of `core` that the C in `model_folder` builds to, placed in `memory` and booted.

    Args:
        delay, flip: faults to build in.

    Raises:
        FirmwareError: it does not compile, does not fit or does not boot, or cannot have such a fault.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-emulate-") as work:
        elf = Path(work) / "model.elf"
        build(model_folder, elf, core, memory, delay=delay)
        if flip:
            flip_weight(elf, elf, flip)
        return Emulator(elf, core, delay=delay)


class Emulator:
    """A booted program, waiting for windows.

    Args:
        elf: what `hwnas.firmware.build.build` wrote.
        limit_s: time after which a window counts as endless.
        delay: the fault it was built with; the delayed kernel then goes by its own name.

    Raises:
        FirmwareError: the file is damaged, or the program does not reach its main loop.
    """

    def __init__(self, elf: Path, core: Core, limit_s: float = CALL_LIMIT_S, *, delay: Delay | None = None) -> None:
        self._name = elf
        self._program = program = read_elf(elf, core)
        if delay:
            program.kernels[program.address(DELAYED)] = delay.kernel
        self._machine = machine = Machine(program, core, limit_s)
        self._wait = program.address("hwnas_harness_wait")
        self._input, self._output = program.address("hwnas_harness_input"), program.address("hwnas_harness_output")
        self.input_bytes, self.output_bytes = program.sizes["hwnas_harness_input"], program.sizes["hwnas_harness_output"]
        machine.boot(self._wait)
        self._loop, self._booted = machine.link, machine.save()

    def run(self, x: Int8) -> Int8:
        """Outputs int8 (N, K) of windows int8 (N, T, C), each from freshly booted memory.

        Raises:
            FirmwareError: a window of another size, a fault, or a window that does not end; names the window and the operator.
        """
        outputs = np.empty((len(x), self.output_bytes), np.int8)
        for index, window in enumerate(x):
            self._window(window, f"window {index}", Watch.NOTHING)
            outputs[index] = self._read_output()
        return outputs

    def measure(self, x: Int8, watch: Watch = Watch.CYCLES) -> Measurement:
        """Output and cost of one window int8 (T, C), from freshly booted memory; raises as `run`."""
        call = self._window(x, "the window", watch)
        total = call.total
        return Measurement(
            total.cycles,
            call.operators,
            total.stack_bytes,
            self._program.ram_bytes + total.stack_bytes,
            self._program.flash_bytes,
            total.flash_read_bytes,
            total.fetch_lines,
            total.unaligned,
            self._read_output(),
        )

    def _window(self, window: Int8, what: str, watch: Watch) -> Call:
        if window.dtype != np.int8 or window.size != self.input_bytes:
            raise FirmwareError(
                f"{self._name}: {what} is {window.dtype} of {window.size} values; the program reads int8 of {self.input_bytes}"
            )
        self._machine.restore(self._booted)
        self._machine.write(self._input, window.tobytes())
        try:
            return self._machine.go(self._loop, self._wait, watch=watch)
        except FirmwareError as error:
            if not watch:
                return self._window(window, what, Watch.CYCLES)  # the same again, to learn which operator it is
            raise FirmwareError(f"{self._name}: {what}: {error}") from error

    def _read_output(self) -> Int8:
        return np.frombuffer(self._machine.read(self._output, self.output_bytes), np.int8)
