"""Depthwise convolutions: a plain-integer oracle == portable C on this machine == the generated Cortex-M4 code, bit by bit."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray
from unicorn import arm_const as arm
from unicorn import unicorn_const as unicorn
from unicorn.unicorn import Uc

from hwnas.export import depthwise
from hwnas.export.depthwise import Filter
from hwnas.export.packing.depthwise import pack_depthwise
from hwnas.firmware.cycles import CycleModel
from hwnas.graph import DepthwiseConv1d, Shape, same_length, same_padding
from hwnas.hardware.weights import packed_bytes
from hwnas.quantize.qgraph import Int8, QuantWeights, requantize
from hwnas.resources import folder

BENCH = folder("firmware_bench")
INCLUDE, GENERIC = BENCH / "include", BENCH / "kernels" / "depthwise_conv1d.c"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
ZIG = (sys.executable, "-m", "ziglang", "cc")
CORTEX_M4 = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-ffreestanding", "-fno-builtin", "-fno-sanitize=all")
PLAIN_CODE = (
    "-std=c99",
    "-O2",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-g0",
)
CODE, DATA, DATA_BYTES, BACK = 0x0800_0000, 0x2000_0000, 1 << 20, 0x080F_FFF0
GUARD, GUARD_BYTES = 0x55, 64


@dataclass(frozen=True)
class Case:
    """One call: constants, input, zero points of input and output."""

    filter: Filter
    constants: QuantWeights
    inputs: Int8
    in_point: int
    out_point: int

    @property
    def packed(self) -> NDArray[np.uint32]:
        return pack_depthwise(self.constants, self.in_point)

    @property
    def out_length(self) -> int:
        return same_length(len(self.inputs), self.filter.stride)

    @property
    def params(self) -> tuple[int, ...]:
        """Members of `hwnas_conv_params` after the pointer."""
        kernel, stride, dilation, channels = self.filter
        length = len(self.inputs)
        left = same_padding(length, kernel, stride, dilation).left
        return (length, channels, self.out_length, channels, kernel, stride, dilation, left, self.in_point, self.out_point)

    def expected(self) -> Int8:
        kernel, stride, dilation, channels = self.filter
        length, reach = len(self.inputs), (kernel - 1) * dilation
        left = same_padding(length, kernel, stride, dilation).left
        signal = np.zeros((self.out_length * stride + left + reach + length, channels), np.int64)
        signal[left : left + length] = self.inputs.astype(np.int64) - self.in_point
        starts = stride * np.arange(self.out_length)
        sums = self.constants.bias + sum(
            self.constants.weights[tap].astype(np.int64) * signal[starts + tap * dilation] for tap in range(kernel)
        )
        return requantize(sums, self.constants.multiplier.astype(np.int64), self.out_point)


def random_case(filter: Filter, length: int, rng: np.random.Generator) -> Case:
    """Outputs spread over int8 and saturate at both ends; zero points anywhere, the ends included; some inputs at their ends."""
    kernel, channels = filter.kernel, filter.channels
    inputs = rng.integers(-128, 128, (length, channels)).astype(np.int8)
    if rng.random() < 0.2:
        inputs = rng.choice(np.array([-128, 127], np.int8), inputs.shape)
    multiplier = rng.integers(1, int(2**32 * 0.9 / (74 * kernel**0.5)), channels).astype(np.int32)
    bias = rng.integers(-(1 << 14), 1 << 14, channels).astype(np.int32)
    constants = QuantWeights(rng.integers(-127, 128, (kernel, channels)).astype(np.int8), bias, np.ones(channels), multiplier)
    in_point, out_point = (int(p) for p in rng.choice([-128, 127, 0, *rng.integers(-128, 128, 3)], 2))
    return Case(filter, constants, inputs, in_point, out_point)


class Board:
    """A Cortex-M4 with functions of C files in its flash."""

    def __init__(self, sources: Iterable[Path], work: Path) -> None:
        program = work / "depthwise.elf"
        environment = os.environ | {"ZIG_LOCAL_CACHE_DIR": str(work / "zig"), "ZIG_GLOBAL_CACHE_DIR": str(work / "zig")}
        script = work / "depthwise.ld"
        script.write_text(f"SECTIONS {{ . = {CODE}; .text : SUBALIGN(16) {{ *(.text*) }} /DISCARD/ : {{ *(.ARM.*) *(.comment) }} }}")
        link = ["-nostdlib", "-Wl,--no-gc-sections", "-Wl,-e,0", "-T", str(script), "-o", str(program)]
        subprocess.run(
            [*ZIG, *CORTEX_M4, *PLAIN_CODE, *WARNINGS, "-I", str(INCLUDE), *map(str, sources), *link], check=True, env=environment
        )
        with program.open("rb") as file:
            elf = ELFFile(file)
            symbols: Any = elf.get_section_by_name(".symtab")
            code = elf.get_section_by_name(".text").data()
            found = (s for s in symbols.iter_symbols() if s["st_info"]["type"] == "STT_FUNC")
            self.functions = {s.name: (s["st_value"] & ~1, s["st_size"]) for s in found}  # address, bytes
        self.model = CycleModel(code, CODE)
        self.uc: Any = Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        self.uc.mem_map(CODE, 1 << 20)
        self.uc.mem_map(DATA, DATA_BYTES)
        self.uc.mem_write(CODE, code)
        self.uc.hook_add(unicorn.UC_HOOK_BLOCK, self._block)
        self.last, self.edges = (0, 0), Counter[tuple[tuple[int, int], tuple[int, int]]]()

    def _block(self, _uc: object, address: int, size_bytes: int, _data: object) -> None:
        if address != BACK:
            self.edges[self.last, (address, size_bytes)] += 1
            self.last = address, size_bytes

    def run(self, case: Case, *, function: str = "", in_place: bool = False, watch: bool = False) -> tuple[Int8, int]:
        """Output and cycles. Nothing beside the output may change; with `watch`, nothing beside the tensors may be touched at all, and
        nothing at an odd address."""
        packed, count = case.packed.tobytes(), case.out_length * case.filter.channels
        params = struct.pack("<11i", DATA + 64, *case.params)
        at_input = DATA + 64 + len(packed) + GUARD_BYTES
        in_end = at_input + case.inputs.size
        at_output = at_input if in_place else (in_end + GUARD_BYTES + 3) & -4
        end = max(in_end, at_output + count) + GUARD_BYTES
        before = bytearray([GUARD]) * (end - DATA)
        before[: len(params)] = params
        before[64 : 64 + len(packed)] = packed
        before[at_input - DATA : in_end - DATA] = case.inputs.tobytes()
        stack = DATA + DATA_BYTES
        self.uc.mem_write(DATA, bytes(before))
        for register, value in ((0, DATA), (1, at_input), (2, at_output), (3, 0)):
            self.uc.reg_write(arm.UC_ARM_REG_R0 + register, value)
        kept = {arm.UC_ARM_REG_R4 + i: 0x1234 + i for i in range(8)}
        for number, value in kept.items():
            self.uc.reg_write(number, value)
        self.uc.reg_write(arm.UC_ARM_REG_SP, stack)
        self.uc.reg_write(arm.UC_ARM_REG_LR, BACK | 1)
        self.last = (0, 0)
        self.edges.clear()
        hook = None
        if watch:
            readable = [
                (DATA, DATA + 64 + len(packed)),
                (at_input, in_end),
                (at_output, at_output + count),
                (stack - 512, stack),
                (CODE, BACK),
            ]
            writable = [(at_output, at_output + count), (stack - 512, stack)]

            def access(_uc: object, kind: int, address: int, size: int, _value: int, _data: object) -> None:
                places = readable if kind == unicorn.UC_MEM_READ else writable
                assert address % size == 0, f"{size} bytes at 0x{address:x}"
                assert any(first <= address and address + size <= last for first, last in places), f"0x{address:x} (kind {kind})"

            hook = self.uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, access)
        start, _ = self.functions[function or depthwise.function(case.filter)]
        self.uc.emu_start(start | 1, BACK, count=10_000_000)
        if hook is not None:
            self.uc.hook_del(hook)
        assert self.uc.reg_read(arm.UC_ARM_REG_PC) == BACK and self.uc.reg_read(arm.UC_ARM_REG_SP) == stack
        assert all(self.uc.reg_read(number) == value for number, value in kept.items())
        after = bytes(self.uc.mem_read(DATA, len(before)))
        place = slice(at_output - DATA, at_output - DATA + count)
        before[place] = after[place]
        assert after == bytes(before), "something beside the output was written"
        return np.frombuffer(after[place], np.int8).reshape(-1, case.filter.channels), self.cycles()

    def cycles(self) -> int:
        total = 0
        for (before, block), times in self.edges.items():
            refill, step = self.model.transition(*before, block[0]) if before[0] else (0, None)
            total += times * (refill + self.model.block(*block, step))
        return total + 2


def board(filters: Iterable[Filter], work: Path) -> Board:
    file = work / "depthwise.c"
    file.write_text(depthwise.source(filters))
    return Board([file, GENERIC], work)


KERNELS, STRIDES = range(1, 12), range(1, 5)
PLAIN = [Filter(kernel, stride, 1, 1 + (kernel + stride) % 3) for kernel in KERNELS for stride in STRIDES]
DILATED = [Filter(kernel, 1, dilation, 2) for kernel in (3, 5, 7, 9) for dilation in (2, 3, 4, 8)]
COMMON = Filter(5, 1, 1, 16)
# Rows that the pointers cannot step over by writing themselves back (more than 127 and 255 bytes), and odd ones.
WIDE = [Filter(kernel, stride, 1, channels) for kernel in (2, 3, 5, 8, 9) for stride in STRIDES for channels in (64, 85, 128, 257, 384)]
# Without functions of their own.
OTHERS = [
    *(Filter(kernel, stride, dilation, 3) for kernel in (2, 4, 3) for stride in (1, 2, 3) for dilation in (2, 3)),
    *(Filter(kernel, stride, 1, 3) for kernel in (12, 13, 17) for stride in (1, 2, 5)),
]
OTHERS = [filter for filter in OTHERS if not depthwise.is_specialised(filter)]


@pytest.fixture(scope="module")
def m4(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return board([*PLAIN, *DILATED, *WIDE, COMMON], tmp_path_factory.mktemp("m4"))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The generic kernel, and one function of a shape of its own, for this machine."""
    work = tmp_path_factory.mktemp("host")
    (work / "depthwise.c").write_text(depthwise.source(PLAIN[:1]))
    library = work / "depthwise.so"
    compiler = ["cc"] if shutil.which("cc") else ZIG
    flags = ["-std=c99", "-O2", "-fPIC", "-shared", "-I", str(INCLUDE), str(work / "depthwise.c"), str(GENERIC), "-o", str(library)]
    subprocess.run([*compiler, *WARNINGS, *flags], check=True)
    return ctypes.CDLL(str(library))


def run_host(library: ctypes.CDLL, case: Case, *, in_place: bool, function: str = depthwise.GENERIC) -> Int8:
    packed, inputs = case.packed, case.inputs.copy()
    params = ctypes.create_string_buffer(struct.pack("<Q10i", packed.ctypes.data, *case.params))
    output = inputs.ravel() if in_place else np.full(case.out_length * case.filter.channels, GUARD, np.int8)
    getattr(library, function)(params, ctypes.c_void_p(inputs.ctypes.data), ctypes.c_void_p(output.ctypes.data), None)
    return output[: case.out_length * case.filter.channels].reshape(-1, case.filter.channels)


def allows_in_place(filter: Filter) -> bool:
    return filter.kernel <= 9 and filter.dilation == 1


@pytest.mark.parametrize("filter", PLAIN, ids=depthwise.function)
def test_every_length(filter: Filter, m4: Board, host: ctypes.CDLL) -> None:
    rng = np.random.default_rng(filter)
    for length in range(1, 41):
        case, in_place = random_case(filter, length, rng), bool(rng.integers(2))
        expected = case.expected()
        np.testing.assert_array_equal(run_host(host, case, in_place=in_place and allows_in_place(filter)), expected)
        np.testing.assert_array_equal(m4.run(case, in_place=in_place, watch=length % 8 == filter.kernel % 8)[0], expected)


@pytest.mark.parametrize("filter", [*DILATED, *WIDE, *OTHERS], ids=str)
def test_other_shapes(filter: Filter, m4: Board, host: ctypes.CDLL) -> None:
    rng = np.random.default_rng(filter)
    lengths = (
        [*range(1, 3 * filter.dilation), *rng.integers(1, 60, 4), 13 * filter.dilation + 1] if filter.channels < 64 else [2, 11, 30, 31]
    )
    for length in map(int, lengths):
        case, in_place = random_case(filter, length, rng), allows_in_place(filter) and bool(rng.integers(2))
        expected = case.expected()
        np.testing.assert_array_equal(run_host(host, case, in_place=in_place), expected)
        np.testing.assert_array_equal(m4.run(case, in_place=in_place, watch=filter.channels < 64 and length % 4 == 1)[0], expected)


@pytest.mark.parametrize("filter", PLAIN[::3], ids=depthwise.function)
def test_the_portable_kernel_on_the_microcontroller(filter: Filter, m4: Board) -> None:
    rng = np.random.default_rng(filter)
    for length in (1, 2, 3, 7, 8, 20, 33):
        case = random_case(filter, length, rng)
        output, _ = m4.run(case, function=depthwise.GENERIC, in_place=allows_in_place(filter), watch=True)
        np.testing.assert_array_equal(output, case.expected())


@pytest.mark.slow
def test_random_shapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    filters = []
    while len(filters) < 150:
        filter = Filter(*(int(rng.integers(1, end)) for end in (12, 5, 1 + rng.integers(1, 10), 80)))
        filters += [filter] if depthwise.is_specialised(filter) else []
    m4 = board(filters, tmp_path)
    for filter in filters:
        for length in map(int, rng.integers(1, 120, 8)):
            case = random_case(filter, length, rng)
            np.testing.assert_array_equal(m4.run(case, in_place=bool(rng.integers(2)))[0], case.expected())


def test_elsewhere_a_shape_is_the_portable_kernel() -> None:
    name = depthwise.function(PLAIN[0])
    own, elsewhere = depthwise.declarations(PLAIN[:1]).split("#else")
    assert f"hwnas_kernel {name};" in own and f"#define {name} {depthwise.GENERIC}\n" in elsewhere


def test_outputs_reach_both_ends(m4: Board) -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([m4.run(random_case(COMMON, 40, rng))[0].ravel() for _ in range(8)])
    assert values.min() == -128 and values.max() == 127 and len(np.unique(values)) > 100


def test_cycles_do_not_depend_on_data(m4: Board) -> None:
    rng = np.random.default_rng(6)
    for filter in (COMMON, *PLAIN[-5:], OTHERS[0]):
        assert len({m4.run(random_case(filter, 37, rng))[1] for _ in range(3)}) == 1


@pytest.mark.parametrize("filter", [*PLAIN, *DILATED[::3], *OTHERS[::4]], ids=str)
def test_cycles_grow_evenly_with_the_length(filter: Filter, m4: Board) -> None:
    """From the shortest length that `period` names on; before it they do not, or it would name a shorter one."""
    samples, shortest = depthwise.period(filter)
    rng = np.random.default_rng(filter)

    def growth(length: int) -> int:
        first, second = (m4.run(random_case(filter, n, rng))[1] for n in (length, length + samples))
        return second - first

    expected = growth(shortest + 5 * samples)
    lengths = [*range(shortest, shortest + 4), *rng.integers(shortest, shortest + 4 * samples, 4)]
    assert {growth(int(length)) for length in lengths} == {expected}
    if depthwise.is_specialised(filter) and shortest > 1:
        assert growth(shortest - 1) != expected


def test_packed_constants_are_as_long_as_costed() -> None:
    rng = np.random.default_rng(0)
    for kernel, channels in itertools.product(range(1, 12), (1, 3, 8)):
        words = random_case(Filter(kernel, 1, 1, channels), 4, rng).packed
        assert words.nbytes == packed_bytes(DepthwiseConv1d(kernel), Shape(channels, 4), "int16")
        assert words.dtype == np.uint32


def test_the_input_zero_point_is_in_the_bias() -> None:
    case = random_case(Filter(4, 1, 1, 2), 4, np.random.default_rng(2))
    rows = replace(case, in_point=-7).packed.reshape(2, -1)
    bias = case.constants.bias + 7 * case.constants.weights.astype(np.int32).sum(0)
    np.testing.assert_array_equal(rows[:, 0].astype(np.int32), bias)
    np.testing.assert_array_equal(rows[:, 1], case.constants.multiplier)
    np.testing.assert_array_equal(np.ascontiguousarray(rows[:, 2:]).view(np.int16), case.constants.weights.T)


def test_which_shapes_have_a_function() -> None:
    assert all(depthwise.is_specialised(filter) for filter in [*PLAIN, *DILATED, *WIDE])
    assert depthwise.function(Filter(5, 1, 1, 32)) == "hwnas_depthwise_conv1d_k5_s1_d1_c32"
    for other in (Filter(12, 1, 1, 8), Filter(3, 5, 1, 8), Filter(3, 2, 2, 8), Filter(4, 1, 2, 8), Filter(3, 4, 1, 1024)):
        assert depthwise.function(other) == "hwnas_depthwise_conv1d"
        assert depthwise.source([other]) == ""


def test_source_names_every_shape_once() -> None:
    text = depthwise.source([PLAIN[3], PLAIN[0], PLAIN[3], OTHERS[0]])
    assert re.findall(r"^hwnas_kernel (\w+);", text, re.MULTILINE) == sorted(map(depthwise.function, (PLAIN[0], PLAIN[3])))
    assert text == depthwise.source([PLAIN[0], PLAIN[3]])


@pytest.mark.parametrize("standard", ["c99", "c++17"])
@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc", "zig"])
def test_no_warning(compiler: str, standard: str, tmp_path: Path) -> None:
    command = [*ZIG, *CORTEX_M4] if compiler == "zig" else [compiler]
    if not shutil.which(command[0]):
        pytest.skip(f"no {compiler} on this machine")
    if compiler == "arm-none-eabi-gcc":
        command += ["-mcpu=cortex-m4", "-mthumb", "-ffreestanding"]
    (tmp_path / "depthwise.c").write_text(depthwise.source([PLAIN[8], PLAIN[-1], DILATED[0], WIDE[-1]]))
    for file in (tmp_path / "depthwise.c", GENERIC):
        arguments = ["-O2", *WARNINGS, f"-std={standard}", "-x", "c++" if "+" in standard else "c", "-I", str(INCLUDE), "-c", str(file)]
        subprocess.run([*command, *arguments, "-o", str(tmp_path / "out.o")], check=True)


# Reads cases from standard input, each (in place, 10 parameters, words) and the packed words and input; writes the outputs.
READS_CASES = r"""
#include <stdio.h>
#include <stdlib.h>
#include "hwnas_kernels.h"

int main(void)
{
    int32_t head[12];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        hwnas_conv_params p = {NULL, head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9], head[10]};
        size_t words = (size_t)head[11], in_bytes = (size_t)(head[1] * head[2]), out_bytes = (size_t)(head[3] * head[4]);
        uint32_t *packed = malloc(4 * words);
        int8_t *in = malloc(in_bytes), *out = head[0] ? in : malloc(out_bytes);
        if (fread(packed, 4, words, stdin) != words || fread(in, 1, in_bytes, stdin) != in_bytes)
            return 2;
        p.packed = packed;
        hwnas_depthwise_conv1d(&p, in, out, NULL);
        fwrite(out, 1, out_bytes, stdout);
        if (out != in)
            free(out);
        free(in);
        free(packed);
    }
    return 0;
}
"""


SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
WATCH = (*ZIG, "-target", "aarch64-linux-musl", "-mcpu=cortex_a53", "-static", "-O2")
PROGRAMS = {"gcc": ((), ("gcc", *SANITIZE)), "clang": ((), ("clang", *SANITIZE)), "aarch64": (("qemu-aarch64",), WATCH)}


@pytest.mark.parametrize("machine", ["gcc", "clang", pytest.param("aarch64", marks=pytest.mark.slow)])
def test_as_a_program(machine: str, tmp_path: Path) -> None:
    """Under sanitizers, and for the watch."""
    (tmp_path / "main.c").write_text(READS_CASES)
    runner, compiler = PROGRAMS[machine]
    for tool in (*runner, compiler[0]):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} on this machine")
    arguments = ["-std=c99", "-I", str(INCLUDE), str(tmp_path / "main.c"), str(GENERIC), "-o", str(tmp_path / "main")]
    environment = os.environ | {"ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig")}
    subprocess.run([*compiler, *arguments], check=True, env=environment)
    rng = np.random.default_rng(3)
    given, expected = b"", b""
    for filter in [*PLAIN, *OTHERS, *DILATED]:
        for length in map(int, (1, 2, *rng.integers(3, 41, 6))):
            case, in_place = random_case(filter, length, rng), allows_in_place(filter) and length % 2
            given += struct.pack("<12i", in_place, *case.params, case.packed.size) + case.packed.tobytes() + case.inputs.tobytes()
            expected += case.expected().tobytes()
    done = subprocess.run([*runner, str(tmp_path / "main")], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:3000]
    assert done.stdout == expected
