"""Convolutions and dense layers: plain integers == portable C on this machine == the Cortex-M4 program, bit by bit.

Every access of the Cortex-M4 program is watched: aligned, and inside what the kernel was given.
"""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from unicorn import arm_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn import Uc

from hwnas.export.packing.blocks import pack_blocks, pack_short
from hwnas.graph import Conv1d, Dense, GraphBuilder, Input, Node, Shape, same_padding
from hwnas.hardware.ops import Layout
from hwnas.hardware.weights import is_short, packed_bytes
from hwnas.memory import align, distance_bytes, scratch_bytes
from hwnas.quantize.qgraph import Int8, QuantWeights
from hwnas.resources import folder

BENCH = folder("firmware_bench")
SOURCES = [str(BENCH / "kernels" / f"{name}.c") for name in ("conv1d_int8", "conv1d_int16", "conv1d_short", "dense_int8", "dense_int16")]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
TARGET = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-ffreestanding", "-nostdlib", "-fno-sanitize=all"]
CORTEX_M4 = [*TARGET, "-std=c99", "-O2", "-fno-builtin", "-fomit-frame-pointer", "-ffunction-sections", "-g0"]
LINKER_SCRIPT = """
SECTIONS
{
    . = 0x08000000;
    .text : { KEEP(*(.text*)) KEEP(*(.rodata*)) }
    /DISCARD/ : { *(.ARM.exidx*) *(.comment) *(.ARM.attributes) }
}
"""
FLASH_BASE, FLASH_BYTES = 0x08000000, 1 << 20
RAM_BASE, RAM_BYTES = 0x20000000, 64 << 20
STACK_BYTES = 512
GUARD = 32
FILL = 0x55


@dataclass(frozen=True)
class Case:
    """One operator with random constants and input, and where its output lies: `None` apart, else so many bytes before its input."""

    op: Conv1d | Dense
    source: Shape
    weights: Layout = "int8"
    seed: int = 0
    before: int | None = None

    @property
    def node(self) -> Node:
        builder = GraphBuilder()
        index = builder.add(self.op, builder.add(Input(*self.source[:2])))
        return builder.build().nodes[index]


@dataclass(frozen=True)
class Call:
    """What a kernel is called with, and what it must write."""

    function: str
    packed: bytes
    params: bytes  # without the pointer
    source: Int8
    expected: Int8
    scratch_bytes: int


def prepare(case: Case) -> Call:
    """Random integers for `case` that spread over int8 and sometimes saturate; zero points anywhere, the ends included."""
    rng = np.random.default_rng(case.seed)
    op, source, node = case.op, case.source, case.node
    outputs = node.shape.channels
    shape = (outputs, source.channels) if isinstance(op, Dense) else (outputs, op.kernel, source.channels)
    taps = int(np.prod(shape[1:]))
    in_point, out_point = (int(v) for v in rng.choice([-128, 127, *rng.integers(-128, 128, 2)], 2))
    weights = rng.integers(-127, 128, shape)
    x = rng.integers(-128, 128, (source.length, source.channels))
    if rng.random() < 0.3:
        weights, x = rng.choice([-127, 127], shape), rng.choice([-128, 127], (source.length, source.channels))
    bias = rng.integers(-(1 << 14), 1 << 14, outputs)
    multiplier = rng.integers(1, (1 << 31) - 1 if rng.random() < 0.2 else int(2.0**32 * 0.9 / (74 * taps**0.5)), outputs)
    constants = QuantWeights(weights.astype(np.int8), bias.astype(np.int32), np.ones(outputs), multiplier.astype(np.int32))
    expected = oracle(case, constants, x, in_point, out_point)
    if isinstance(op, Dense):
        name, packed, fields = f"dense_{case.weights}", pack_blocks(constants, in_point, case.weights), [taps, op.units, out_point]
    else:
        short = is_short(op, source)
        name = f"conv1d_{'short' if short else case.weights}"
        packed = pack_short(constants, in_point) if short else pack_blocks(constants, in_point, case.weights)
        left = same_padding(source.length, op.kernel, op.stride, op.dilation).left
        fields = [source.length, source.channels, node.shape.length, outputs, op.kernel, op.stride, op.dilation, left, in_point, out_point]
    assert packed.nbytes == packed_bytes(op, source, case.weights)
    params = struct.pack(f"<{len(fields)}i", *fields)
    return Call(f"hwnas_{name}", packed.tobytes(), params, x.astype(np.int8), expected, scratch_bytes(node, source))


def oracle(case: Case, k: QuantWeights, x: np.ndarray[Any, Any], in_point: int, out_point: int) -> Int8:
    """The rules at the head of `qgraph` in Python integers."""
    op, node = case.op, case.node
    out = np.zeros((node.shape.length, node.shape.channels), np.int8)
    kernel, stride, dilation = (1, 1, 1) if isinstance(op, Dense) else (op.kernel, op.stride, op.dilation)
    left = same_padding(case.source.length, kernel, stride, dilation).left
    weights = k.weights.reshape(len(k.weights), kernel, -1).astype(np.int64)
    for position in range(node.shape.length):
        taps = [(tap, position * stride - left + tap * dilation) for tap in range(kernel)]
        inside = [(tap, at) for tap, at in taps if 0 <= at < case.source.length]
        for channel in range(node.shape.channels):
            acc = int(k.bias[channel]) + sum(int(weights[channel, tap] @ (x[at] - in_point)) for tap, at in inside)
            out[position, channel] = max(-128, min(127, out_point + ((acc * int(k.multiplier[channel]) + 2**31) >> 32)))
    return out


class Host:
    """The portable kernels of a shared library of this machine."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def run(self, call: Call, before: int | None) -> Int8:
        """The output; `before` as in `Case`."""
        tensors, source, out = place(call, before)
        scratch = np.full(call.scratch_bytes + 2 * GUARD, FILL, np.int8)
        packed = np.frombuffer(call.packed, np.uint32).copy()
        params = ctypes.create_string_buffer(struct.pack("<Q", packed.ctypes.data) + call.params)
        function = getattr(self._library, call.function)
        function.restype = None
        base = tensors.ctypes.data
        function(params, *(ctypes.c_void_p(a) for a in (base + source, base + out, scratch.ctypes.data + GUARD)))
        assert_untouched(scratch, GUARD, len(scratch) - GUARD)
        return finish(call, tensors, source, out, before)


class CortexM4:
    """The Cortex-M4 program in Unicorn, every access checked."""

    def __init__(self, elf: Path) -> None:
        program = ELFFile(io.BytesIO(elf.read_bytes()))
        self.symbols = {s.name: s["st_value"] for s in program.get_section_by_name(".symtab").iter_symbols()}
        self.uc: Any = Uc(const.UC_ARCH_ARM, const.UC_MODE_THUMB | const.UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(reg.UC_CPU_ARM_CORTEX_M4)
        self.uc.mem_map(FLASH_BASE, FLASH_BYTES)
        self.uc.mem_map(RAM_BASE, RAM_BYTES)
        self.flash = b""
        for segment in program.iter_segments():
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 1:
                assert segment["p_vaddr"] == FLASH_BASE
                self.flash = segment.data()
        self.uc.mem_write(FLASH_BASE, self.flash)

    def run(self, call: Call, before: int | None, hooks: dict[int, Callable[..., None]] | None = None) -> Int8:
        """The output; `before` as in `Case`. `hooks` instead of the check of accesses."""
        tensors, source, out = place(call, before)
        packed = RAM_BASE + STACK_BYTES + GUARD
        params = packed + len(call.packed) + GUARD
        scratch = params + 4 + len(call.params) + GUARD
        base = scratch + call.scratch_bytes + GUARD
        for address, content in ((packed, call.packed), (params, struct.pack("<I", packed) + call.params), (base, tensors.tobytes())):
            self.uc.mem_write(address, content)
        self.uc.mem_write(RAM_BASE, bytes(STACK_BYTES))
        readable = [
            (FLASH_BASE, FLASH_BASE + len(self.flash)),
            (packed, packed + len(call.packed)),
            (params, params + 4 + len(call.params)),
            (base + source, base + source + call.source.size),
        ]
        writable = [
            (RAM_BASE, RAM_BASE + STACK_BYTES),
            (scratch, scratch + call.scratch_bytes),
            (base + out, base + out + call.expected.size),
        ]
        wrong: list[str] = []

        def access(_uc: object, kind: int, address: int, size: int, _value: int, _data: object) -> None:
            allowed = writable if kind == const.UC_MEM_WRITE else writable[:2] + readable
            if address % size or not any(low <= address and address + size <= high for low, high in allowed):
                wrong.append(f"{'write' if kind == const.UC_MEM_WRITE else 'read'} of {size} bytes at 0x{address:x}")

        back = FLASH_BASE + FLASH_BYTES - 4
        kept = list(range(0x44, 0x4C))
        for register, value in zip(range(reg.UC_ARM_REG_R4, reg.UC_ARM_REG_R4 + 8), kept, strict=True):
            self.uc.reg_write(register, value)
        for register, value in zip(
            (reg.UC_ARM_REG_R0, reg.UC_ARM_REG_R1, reg.UC_ARM_REG_R2, reg.UC_ARM_REG_R3, reg.UC_ARM_REG_SP, reg.UC_ARM_REG_LR),
            (params, base + source, base + out, scratch, RAM_BASE + STACK_BYTES, back | 1),
            strict=True,
        ):
            self.uc.reg_write(register, value)
        chosen = {const.UC_HOOK_MEM_READ | const.UC_HOOK_MEM_WRITE: access} if hooks is None else hooks
        self.uc.ctl_flush_tb()
        handles = [self.uc.hook_add(kind, function) for kind, function in chosen.items()]
        try:
            self.uc.emu_start(self.symbols[call.function] | 1, back, timeout=60_000_000)
        finally:
            for handle in handles:
                self.uc.hook_del(handle)
        assert not wrong, f"{len(wrong)} wrong accesses, first: {wrong[:5]}"
        assert [self.uc.reg_read(reg.UC_ARM_REG_R4 + i) for i in range(8)] == kept
        assert self.uc.reg_read(reg.UC_ARM_REG_PC) == back and self.uc.reg_read(reg.UC_ARM_REG_SP) == RAM_BASE + STACK_BYTES
        tensors = np.frombuffer(self.uc.mem_read(base, len(tensors)), np.int8)
        return finish(call, tensors, source, out, before)


def place(call: Call, before: int | None) -> tuple[Int8, int, int]:
    """Memory with the input in it and guards around, the input's offset, the output's."""
    source = GUARD + (before or 0)
    out = GUARD if before is not None else align(source + call.source.size) + GUARD
    tensors = np.full(max(source + call.source.size, out + call.expected.size) + GUARD, FILL, np.int8)
    tensors[source : source + call.source.size] = call.source.reshape(-1)
    return tensors, source, out


def finish(call: Call, tensors: Int8, source: int, out: int, before: int | None) -> Int8:
    """The output in `tensors`, once nothing else is found changed."""
    end = out + call.expected.size
    if before is None:
        assert_untouched(tensors, source, source + call.source.size, out, end)
        np.testing.assert_array_equal(tensors[source : source + call.source.size], call.source.reshape(-1))
    else:
        assert_untouched(tensors, out, max(end, source + call.source.size))
    return tensors[out:end].reshape(call.expected.shape)


def assert_untouched(buffer: Int8, *bounds: int) -> None:
    """Everything outside of the ranges that `bounds` delimit is as it was."""
    for low, high in zip((0, *bounds[1::2]), (*bounds[::2], len(buffer)), strict=True):
        assert (buffer[low:high] == FILL).all()


def compile_host(place: Path, *options: str) -> Path:
    library = place / "kernels.so"
    command = [
        "gcc",
        "-std=c99",
        "-O2",
        *WARNINGS,
        *options,
        "-fPIC",
        "-shared",
        "-I",
        str(BENCH / "include"),
        *SOURCES,
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True, timeout=100)
    return library


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(compile_host(tmp_path_factory.mktemp("host")))


def compile_cortex_m4(place: Path) -> Path:
    elf, script = place / "kernels.elf", place / "kernels.ld"
    script.write_text(LINKER_SCRIPT)
    zig = [sys.executable, "-m", "ziglang", "cc", *CORTEX_M4, *WARNINGS, "-I", str(BENCH / "include")]
    subprocess.run([*zig, *SOURCES, "-Wl,--entry=hwnas_conv1d_int8", "-T", str(script), "-o", str(elf)], check=True, timeout=100)
    return elf


@pytest.fixture(scope="module")
def cortex_m4(tmp_path_factory: pytest.TempPathFactory) -> CortexM4:
    return CortexM4(compile_cortex_m4(tmp_path_factory.mktemp("cortex_m4")))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    weights: Layout = draw(st.sampled_from(["int8", "int16"]))
    seed = draw(st.integers(0, 1 << 30))
    channels = draw(st.one_of(st.integers(1, 13), st.sampled_from([16, 20, 32])))
    if draw(st.integers(0, 3)) == 0:
        return Case(Dense(draw(st.integers(1, 14))), Shape(draw(st.one_of(st.integers(1, 40), st.just(channels))), 1), weights, seed)
    kernel, stride, dilation = (draw(st.integers(1, n)) for n in (9, 4, 3))
    source = Shape(channels, draw(st.integers(1, 15)))
    op = Conv1d(draw(st.integers(1, 13)), kernel, stride, dilation=dilation if draw(st.booleans()) else 1)
    return Case(op, source, weights, seed, behind(op, source) if draw(st.booleans()) else None)


def behind(op: Conv1d, source: Shape) -> int:
    """How far before its input the planner puts an output at least."""
    return max(0, distance_bytes(op, source, Case(op, source).node.shape))


@st.composite
def stems(draw: st.DrawFn) -> Case:
    """Shapes of the kernel for short windows, and their neighbours."""
    channels, kernel, stride = draw(
        st.sampled_from([(1, k, s) for k in range(1, 10) for s in (1, 2, 4)] + [(2, k, s) for k in range(1, 5) for s in (1, 2)])
    )
    op, source = Conv1d(draw(st.integers(1, 9)), kernel, stride), Shape(channels, draw(st.integers(1, 40)))
    return Case(op, source, "int16", draw(st.integers(0, 1 << 30)), behind(op, source) if draw(st.booleans()) else None)


def check(case: Case, host: Host, cortex_m4: CortexM4) -> None:
    call = prepare(case)
    np.testing.assert_array_equal(host.run(call, case.before), call.expected)
    np.testing.assert_array_equal(cortex_m4.run(call, case.before), call.expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
@example(Case(Conv1d(5, 3), Shape(4, 1)))
@example(Case(Conv1d(8, 9), Shape(8, 3), "int16"))
@example(Case(Conv1d(4, 5, 2, dilation=2), Shape(12, 9), "int16"))
@example(Case(Dense(9), Shape(70, 1), "int16"))
@example(Case(Dense(9), Shape(69, 1)))
def test_kernels_compute_the_plain_integers(host: Host, cortex_m4: CortexM4, case: Case) -> None:
    check(case, host, cortex_m4)


@settings(max_examples=40, deadline=None)
@given(stems())
def test_short_windows_compute_the_plain_integers(host: Host, cortex_m4: CortexM4, case: Case) -> None:
    check(case, host, cortex_m4)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(cases(), stems()))
def test_many_shapes(host: Host, cortex_m4: CortexM4, case: Case) -> None:
    check(case, host, cortex_m4)


@pytest.mark.parametrize("weights", ["int8", "int16"])
@pytest.mark.parametrize("taps", range(1, 70))
def test_every_number_of_taps(host: Host, cortex_m4: CortexM4, taps: int, weights: Layout) -> None:
    """Unrolled loops are entered at every place."""
    check(Case(Conv1d(5), Shape(taps, 3), weights, taps), host, cortex_m4)
    check(Case(Dense(5), Shape(taps, 1), weights, taps), host, cortex_m4)


def random_case(rng: np.random.Generator) -> Case:
    weights: Layout = "int8" if rng.random() < 0.5 else "int16"
    seed = int(rng.integers(1 << 30))
    if rng.random() < 0.2:
        return Case(Dense(int(rng.integers(1, 14))), Shape(int(rng.integers(1, 40)), 1), weights, seed)
    channels = int(rng.choice([1, 1, 2, *rng.integers(1, 20, 3)]))
    op = Conv1d(int(rng.integers(1, 14)), int(rng.integers(1, 10)), int(rng.integers(1, 5)), dilation=int(rng.choice([1, 1, 2, 3])))
    return Case(op, Shape(channels, int(rng.integers(1, 20))), weights, seed)


def sanitized(library: Path) -> None:
    """Runs under the sanitizers, which stop the process at what they find."""
    host, rng = Host(library), np.random.default_rng(0)
    for _ in range(200):
        case = random_case(rng)
        call = prepare(case)
        np.testing.assert_array_equal(host.run(call, None), call.expected)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc's sanitizers")
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    library = compile_host(tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True).stdout.strip()
    environment = os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, __file__, str(library)], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    sanitized(Path(sys.argv[1]))
