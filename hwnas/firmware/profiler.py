"""Cycles, stack and flash traffic of single operators, and what a model costs beyond them. Builds one program; runs it in Unicorn.

Each operator is the very function that a student's firmware links, called with the parameters of the asked shape. Its control
flow depends on shapes alone, so the constants may be anything. A prediction made from these figures has read nothing of the
student's own run, and equals it: cycles are the sum of the operators, one `call_cycles` each, and `frame_cycles`.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.export import c, depthwise
from hwnas.export.packing import PackedNode
from hwnas.firmware.build import build, code_bytes, kernel_object
from hwnas.firmware.core import Core
from hwnas.firmware.counting import OperatorRun, Watch, together
from hwnas.firmware.emulator import Emulator
from hwnas.firmware.machine import Machine, read_elf
from hwnas.graph import Dense, GlobalAvgPool, Graph, GraphBuilder, Input, Shape
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout, OpKey, calls, graph_of
from hwnas.hardware.profile import Memory, Region
from hwnas.hardware.table import Overheads
from hwnas.hardware.weights import flash_bytes
from hwnas.memory import align, modality_bytes, scratch_bytes, values_bytes
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.resources import folder, write_bytes, write_text

# Memory that no part has: shapes are profiled whether or not a whole model around them would fit.
ROOM = Memory(flash=Region(origin=0x08000000, bytes=16 << 20), sram=Region(origin=0x20000000, bytes=32 << 20))


class Profiler:
    """One booted program that holds every kernel.

    Args:
        filters: the depthwise shapes that it holds a function of.
        kernel_flags: as of `hwnas.firmware.build.build`.

    Raises:
        FirmwareError: the compiler fails.
    """

    def __init__(self, core: Core, filters: Iterable[depthwise.Filter] = (), kernel_flags: Mapping[str, str] | None = None) -> None:
        self._core, self._graph = core, _reference_graph()
        own = sorted({f for f in filters if depthwise.is_specialised(f)}) if core.has_filters else []
        with tempfile.TemporaryDirectory(prefix="hwnas-profile-") as work:
            model, elf = Path(work) / "model", Path(work) / "model.elf"
            c.write(_filled(self._graph), uniform(self._graph), model, weights_hash="")
            self._code_bytes = _add_kernels(model, own, core, kernel_flags)
            build(model, elf, core, ROOM, keep=list(self._code_bytes), kernel_flags=kernel_flags)
            self._program = program = read_elf(elf, core)
            self._whole = Emulator(elf, core).measure(
                np.zeros((self._graph.input_shape.length, self._graph.input_shape.channels), np.int8), Watch.READS
            )
        self._machine = Machine(program, core)
        self._machine.boot(program.address("hwnas_harness_wait"))
        code = -(-len(program.flash) // 4096) * 4096
        self._rom = (ROOM.flash.origin + code, ROOM.flash.origin + ROOM.flash.bytes - 4096)
        self._ram = (ROOM.sram.origin + align(program.ram_bytes), program.stack_region[0])

    def profile(self, key: OpKey, in_length: int) -> OperatorRun:
        """What the operator `key` takes on `in_length` samples, from its first instruction to its return.

        Raises:
            FirmwareError: the shape is larger than the profiler's memory, its depthwise filter was not named, or the kernel faults.
        """
        graph, index = graph_of(key, in_length)
        sources = [graph.nodes[i].shape for i in graph.nodes[index].inputs]
        inputs = [np.zeros((s.rows, s.channels), np.int8) for s in sources]
        return self.run(_filled(graph), index, inputs, key.weights)[1]

    def kernel(self, key: OpKey) -> tuple[str, int]:
        """The function that computes `key`, and the bytes of code that it adds to a program, once."""
        graph, index = graph_of(key, key.kernel)
        name = self._known(c.packed_node(_filled(graph), index, key.weights).kernel)
        return name, self._code_bytes[name]

    def run(
        self, q: QuantGraph, index: int, inputs: Sequence[Int8], weights: Layout, watch: Watch = Watch.READS
    ) -> tuple[Int8, OperatorRun]:
        """Output int8 (M * L, C) of node `index` of `q`, its weights laid out as `weights`, on its `inputs` int8 (M * L, C), and what
        all calls of its kernel took."""
        node = q.graph.nodes[index]
        source, shape = q.graph.in_shape(node), node.shape
        machine, place = self._machine, _Place(self._machine, self._core, self._rom, self._ram)
        first = place.tensor(_placed(inputs[0], source))
        aux = place.tensor(
            _placed(inputs[1], q.graph.nodes[node.inputs[1]].shape) if len(inputs) > 1 else bytes(scratch_bytes(node, source))
        )
        out = place.tensor(bytes(values_bytes(shape)))
        packed = c.packed_node(q, index, weights)
        kernel, params = self._program.address(self._known(packed.kernel)), place.params(packed)
        runs = []
        for modality in range(calls(node.op, source)):
            target, origin = out + modality * modality_bytes(shape), first + modality * modality_bytes(source)
            call = machine.call(kernel, params, origin, target, aux, watch=watch)
            runs.append(call.operators[0][1] if watch else OperatorRun())
        return _values(machine.read(out, values_bytes(shape)), shape), together(runs)

    def overheads(self) -> Overheads:
        """What a model costs beyond its operators: the same for every student."""
        program, whole, graph = self._program, self._whole, self._graph
        kernels = [run for _, run in whole.per_operator]
        count, one, two = len(kernels), self._frame(1), self._frame(2)
        call_cycles = two.cycles - one.cycles
        call_read_bytes = two.flash_read_bytes - one.flash_read_bytes
        call_lines = two.fetch_lines - one.fetch_lines
        constants = flash_bytes(graph, uniform(graph).weights, self._core.pointer_bytes)
        buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements) + max(uniform(graph).plan.arena_bytes, 4)
        return Overheads(
            frame_cycles=whole.cycles - sum(k.cycles for k in kernels) - count * call_cycles,
            call_cycles=call_cycles,
            frame_read_bytes=whole.flash_read_bytes - sum(k.flash_read_bytes for k in kernels) - count * call_read_bytes,
            call_read_bytes=call_read_bytes,
            frame_lines=whole.fetch_lines - sum(k.fetch_lines for k in kernels) - count * call_lines,
            call_lines=call_lines,
            frame_stack_bytes=whole.stack_bytes - max(k.stack_bytes for k in kernels),
            static_bytes=program.ram_bytes - buffers,
            code_bytes=program.flash_bytes - constants - sum(self._code_bytes.values()),
        )

    def _known(self, kernel: str) -> str:
        """The function behind a kernel's name: without functions for filters, the generic one."""
        if not self._core.has_filters and kernel.startswith(depthwise.GENERIC):
            return depthwise.GENERIC
        if kernel not in self._code_bytes:
            raise FirmwareError(f"the profiler has no '{kernel}'; name its filter when the profiler is made")
        return kernel

    def _frame(self, layers: int) -> OperatorRun:
        """The layer loop itself over `layers` small layers."""
        place = _Place(self._machine, self._core, self._rom, self._ram)
        data = place.tensor(bytes(64))
        packed = c.packed_node(_filled(self._graph), 1, "none")
        kernel = self._program.address(packed.kernel) | self._core.entry_bit
        row = place.words((kernel, place.params(packed)), (0, 0, 0))
        table = place.constant(row * layers)
        return self._machine.call(self._program.address("hwnas_run"), table, layers, data, data, data, watch=Watch.READS).frame


class _Place:
    """Hands out memory for one call: constants in flash behind the program, tensors in RAM behind its variables."""

    def __init__(self, machine: Machine, core: Core, rom: tuple[int, int], ram: tuple[int, int]) -> None:
        self._machine, self._core = machine, core
        self._rom, self._rom_end = rom
        self._ram, self._ram_end = ram

    def tensor(self, content: bytes) -> int:
        """Address of `content` in RAM."""
        address, self._ram = self._ram, self._ram + align(len(content))
        return self._put(address, content, self._ram_end)

    def constant(self, content: bytes) -> int:
        """Address of `content` in flash."""
        unit = self._core.pointer_bytes
        address, self._rom = self._rom, self._rom + -(-len(content) // unit) * unit
        return self._put(address, content, self._rom_end)

    def params(self, node: PackedNode) -> int:
        """Address of a node's parameter structure."""
        pointers = (self.constant(node.packed.tobytes()),) if node.packed.size else ()
        return self.constant(self.words(pointers, node.params.values()))

    def words(self, pointers: Sequence[int], words: Iterable[int]) -> bytes:
        """A C structure of `pointers`, then 32-bit `words`."""
        content = b"".join(p.to_bytes(self._core.pointer_bytes, "little") for p in pointers)
        content += b"".join(struct.pack("<I", word & 0xFFFFFFFF) for word in words)
        unit = self._core.pointer_bytes if pointers else 4
        return content + bytes(-len(content) % unit)

    def _put(self, address: int, content: bytes, end: int) -> int:
        if address + len(content) > end:
            raise FirmwareError(f"an operator of {len(content)} bytes cannot be profiled; choose a smaller shape")
        self._machine.write(address, content)
        return address


def _add_kernels(model: Path, filters: list[depthwise.Filter], core: Core, kernel_flags: Mapping[str, str] | None) -> dict[str, int]:
    """Put every kernel and the functions of `filters` beside a model; the bytes of code of each by name."""
    sizes = {}
    headers = sorted((model / c.INCLUDE).glob("*.h"))
    for source in sorted((folder("firmware_bench") / c.KERNELS).glob("*.c")):
        write_bytes(model / c.KERNELS / source.name, source.read_bytes())
        if source.name != "run.c":
            sizes[f"hwnas_{source.stem}"] = sum(code_bytes(kernel_object(source, headers, core, kernel_flags=kernel_flags), core).values())
    if filters:
        write_text(model / "depthwise.c", depthwise.source(filters))
        sections = code_bytes(kernel_object(model / "depthwise.c", headers, core, kernel_flags=kernel_flags), core)
        names = [depthwise.function(f) for f in filters]
        sizes |= {name: sections[f".text.{name}"] for name in names}
    return sizes


def _placed(x: Int8, shape: Shape) -> bytes:
    """A tensor int8 (M * L, C) as it lies in memory."""
    room = np.zeros((shape.modalities, modality_bytes(shape)), np.int8)
    room[:, : shape.channels * shape.length] = x.reshape(shape.modalities, -1)
    return room.tobytes()[: values_bytes(shape)]


def _values(content: bytes, shape: Shape) -> Int8:
    """The tensor int8 (M * L, C) that lies so in memory."""
    room = np.zeros((shape.modalities, modality_bytes(shape)), np.int8)
    room.reshape(-1)[: len(content)] = np.frombuffer(content, np.int8)
    return room[:, : shape.channels * shape.length].reshape(shape.rows, shape.channels)


def _filled(graph: Graph) -> QuantGraph:
    """`graph` with constants of no meaning."""
    return arbitrary(graph, np.random.default_rng(0))


def _reference_graph() -> Graph:
    """The smallest whole model: what its layers cost is subtracted again."""
    builder = GraphBuilder()
    pooled = builder.add(GlobalAvgPool(), builder.add(Input(4, 4)))
    builder.add(Dense(4), pooled)
    return builder.build()
