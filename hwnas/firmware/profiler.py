"""Cycles and stack of single operators, and what a model costs beyond them. Builds one small program; runs it in Unicorn.

Each operator is the very function that a student's firmware links, called with the parameters of the asked shape. Its control
flow depends on shapes alone, so the constants may be anything. A prediction made from these figures has read nothing of the
student's own run, and equals it: cycles are the sum of the operators, one `call_cycles` each, and `frame_cycles`.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.export import c
from hwnas.export.packing import PackedNode, pack_node
from hwnas.firmware.build import build
from hwnas.firmware.emulator import Emulator
from hwnas.firmware.machine import Machine, Program, read_elf
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Node, node_biases
from hwnas.hardware.ops import OpKey, node_of
from hwnas.hardware.table import Overheads
from hwnas.memory import align, plan, scratch_bytes
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph, QuantWeights

# RAM that no part has: shapes are profiled whether or not a whole model around them would fit.
EXTRA_BASE, EXTRA_BYTES = 0x60000000, 64 << 20


class Profiler:
    """One booted program that holds every kernel.

    Raises:
        FirmwareError: the compiler fails.
    """

    def __init__(self) -> None:
        self._graph = _reference_graph()
        with tempfile.TemporaryDirectory(prefix="hwnas-profile-") as work:
            model, elf = Path(work) / "model", Path(work) / "model.elf"
            c.write(_blank(self._graph), plan(self._graph), model, weights_hash="")
            build(model, elf)
            self._program = read_elf(elf)
            self._whole = Emulator(elf).measure(np.zeros(self._graph.input_shape[::-1], np.int8))
        self._machine = Machine(self._program, (EXTRA_BASE, EXTRA_BYTES))

    def profile(self, key: OpKey, in_length: int) -> tuple[int, int]:
        """(cycles, stack bytes) of the operator `key` on `in_length` samples, from its first instruction to its return.

        Raises:
            FirmwareError: the shape is larger than the profiler's memory, or the kernel faults.
        """
        node, source = node_of(key, in_length)
        graph = Graph((Node(Input(source.channels, source.length), (), source), node))
        return self.run(_blank(graph), 1, np.zeros((len(node.inputs), source.length, source.channels), np.int8))[1:]

    def run(self, q: QuantGraph, index: int, inputs: Int8) -> tuple[Int8, int, int]:
        """(output int8 (L, C), cycles, stack bytes) of node `index` of `q` on its `inputs` int8 (number of inputs, L, C)."""
        node = q.graph.nodes[index]
        machine = self._machine
        memory = _Memory(machine)
        first = memory.put(inputs[0].tobytes())
        aux = memory.put(inputs[1].tobytes() if len(inputs) > 1 else bytes(scratch_bytes(node, q.graph.in_shape(node))))
        out = memory.put(bytes(node.shape.elements))
        params, kernel = memory.params(pack_node(q, index), self._program)
        machine.paint_stack()
        call = machine.call(kernel, params, first, out, aux, count=True)
        output = np.frombuffer(machine.read(out, node.shape.elements), np.int8).reshape(node.shape.length, node.shape.channels)
        return output, call.total, machine.stack_bytes()

    def overheads(self) -> Overheads:
        """What a model costs beyond its operators: the same for every student."""
        program, whole, graph = self._program, self._whole, self._graph
        kernels = [self.run(_blank(graph), i, np.zeros((1, *graph.in_shape(n)[::-1]), np.int8)) for i, n in enumerate(graph) if i]
        call = self._frame(2) - self._frame(1)
        constants = sum(size for name, size in program.sizes.items() if name.startswith(("layers", "params_", "packed_")))
        buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements) + plan(graph).arena_bytes
        return Overheads(
            frame_cycles=whole.cycles - sum(cycles for _, cycles in whole.per_operator) - len(whole.per_operator) * call,
            call_cycles=call,
            frame_stack_bytes=whole.stack_bytes - max(stack for _, _, stack in kernels),
            static_bytes=program.ram_bytes - buffers,
            code_bytes=program.flash_bytes - constants,
        )

    def _frame(self, layers: int) -> int:
        """Cycles of the layer loop itself over `layers` small layers."""
        q = _blank(self._graph)
        memory = _Memory(self._machine)
        data = memory.put(bytes(64))
        params, kernel = memory.params(pack_node(q, 1), self._program)
        table = memory.put(struct.pack("<5I", kernel | 1, params, 0, 0, 0) * layers)
        return self._machine.call(self._program.address("hwnas_run"), table, layers, data, data, data, count=True).frame


class _Memory:
    """Hands out the extra RAM from its start."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._next = machine, EXTRA_BASE

    def put(self, content: bytes) -> int:
        """Address of `content`, 4-byte aligned."""
        address = self._next
        self._next += align(len(content))
        if self._next > EXTRA_BASE + EXTRA_BYTES:
            raise FirmwareError(f"an operator of more than {EXTRA_BYTES} bytes cannot be profiled; choose a smaller shape")
        self._machine.write(address, content)
        return address

    def params(self, node: PackedNode, program: Program) -> tuple[int, int]:
        """Addresses of a node's parameter structure and of its kernel."""
        words = list(node.params.values())
        if node.packed.size:
            words.insert(0, self.put(node.packed.tobytes()))
        return self.put(struct.pack(f"<{len(words)}I", *(word & 0xFFFFFFFF for word in words))), program.address(node.kernel)


def _reference_graph() -> Graph:
    """The smallest whole model: what its layers cost is subtracted again."""
    builder = GraphBuilder()
    pooled = builder.add(GlobalAvgPool(), builder.add(Input(4, 4)))
    builder.add(Dense(4), pooled)
    return builder.build()


def _blank(graph: Graph) -> QuantGraph:
    """`graph` with constants of the right shapes and no meaning."""
    constants: dict[int, QuantWeights] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, channels = node.op, graph.in_shape(node).channels
        if isinstance(op, Add | GlobalAvgPool):
            multipliers[index] = (1, 1)
            continue
        shape: tuple[int, ...] = (node.shape.channels, channels)
        if isinstance(op, Conv1d):
            shape = (op.out_channels, op.kernel, channels)
        elif isinstance(op, DepthwiseConv1d):
            shape = (op.kernel, channels)
        ones = np.ones(node_biases(node), np.int32)
        constants[index] = QuantWeights(np.zeros(shape, np.int8), ones, ones.astype(np.float64), ones)
    return QuantGraph(graph, (Quant(1.0, 0),) * len(graph.nodes), constants, multipliers)
