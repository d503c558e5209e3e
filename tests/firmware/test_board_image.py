"""Programs for boards: exact on every port that runs here, the same bytes every time, faults that show and change nothing else."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from plain_link import CHECK, NOT_GREETED, NOT_RUN, OPERATORS, OUTPUT, RESET, RUN, USAGE, Process, on_line, sound
from shipped_students import family_graph

from hwnas.errors import FirmwareError, UsageError
from hwnas.export import c
from hwnas.export.depthwise import GENERIC
from hwnas.firmware.board_image import PORTS, Delay, Flip, Image, build_image, find_flip, find_port, flip_weight
from hwnas.firmware.build import build, kernel_set_hash
from hwnas.firmware.cortex_m4 import CORTEX_M4
from hwnas.firmware.emulator import Emulator, emulate
from hwnas.firmware.machine import read_elf
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import calls
from hwnas.hardware.profile import Memory, read
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph

TEMPLATE = Path(__file__).resolve().parents[2] / "firmware_bench" / "ports" / "template"
QEMU = ["qemu-system-arm", "-M", "netduinoplus2", "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"]
RUNNERS = {"host": [], "linux-aarch64": ["qemu-aarch64"], "stm32f405": QEMU}
UNKNOWN = 2**32 - 1
KERNEL_SET = "0123456789abcdef"


class Student:
    """A student's integers, its exported folder, some windows and what the reference has for them."""

    def __init__(self, family: str, place: Path) -> None:
        rng = np.random.default_rng(7)
        graph = family_graph(family)
        self.q: QuantGraph = arbitrary(graph, rng)
        self.folder = place / family
        c.write(self.q, uniform(graph), self.folder, weights_hash="feedc0de")
        self.windows: Int8 = rng.integers(-128, 128, (4, graph.input_shape.length, graph.input_shape.channels)).astype(np.int8)
        self.expected = reference.run(self.q, self.windows).reshape(len(self.windows), -1)
        self.layers = sum(calls(node.op, graph.in_shape(node)) for node in graph.nodes[1:])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


@pytest.fixture(scope="module")
def student(place: Path) -> Student:
    return Student("mobilenet", place)


@pytest.fixture(scope="module")
def images(student: Student, place: Path) -> Callable[[str], Image]:
    """`images("host")` -> the student's image for that port, built once."""

    @cache
    def made(port: str) -> Image:
        return build_image(student.folder, place / port, PORTS[port], kernel_set=KERNEL_SET)

    return made


def runner(port: str) -> list[str]:
    """The command that runs an image of `port`; the test is skipped where it is absent."""
    command = RUNNERS[port]
    if command and shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: the image for {port} was built and not run")
    return command


@pytest.fixture(scope="module", params=RUNNERS)
def board(request: pytest.FixtureRequest, images: Callable[[str], Image]) -> Iterator[tuple[str, Image, Process]]:
    """A running image: (port, image, line)."""
    port, image = request.param, images(request.param)
    with Process([*runner(port), str(image.path)]) as process:
        yield port, image, process


def test_it_says_what_it_is(board: tuple[str, Image, Process], student: Student) -> None:
    port, image, process = board
    numbers, texts = process.greet()
    graph = student.q.graph
    protocol, payload, clock_hz, counter, counter_hz, *sizes = numbers
    assert (protocol, payload) == (1, 512)
    assert sizes[:2] == [graph.input_shape.elements, graph.output_shape.elements] and sizes[3] == student.layers
    # QEMU's part has neither PLL nor cycle counter, and must not make them up; a process knows no clock of a core.
    assert (clock_hz, counter, counter_hz) == ((16_000_000, 0, 0) if port == "stm32f405" else (0, 2, 1_000_000_000))
    assert texts[1:] == [image.toolchain, KERNEL_SET, graph.hash, "feedc0de", ""]
    assert texts[0].startswith({"host": "", "linux-aarch64": "AArch64 Linux", "stm32f405": "STM32F405"}[port])


def test_outputs_are_those_of_the_reference(board: tuple[str, Image, Process], student: Student) -> None:
    port, _, process = board
    (*_, arena_bytes, _), _ = process.greet()
    assert process.ask(OUTPUT, struct.pack("<IH", 0, 1))[0] == NOT_RUN
    for window, expected in zip(student.windows, student.expected, strict=True):
        output, ticks = process.infer(window, len(expected), repeats=3)
        np.testing.assert_array_equal(output, expected)
        operators = process.number(OPERATORS, struct.pack("<HH", 0, student.layers), f"{student.layers}Q")
        assert all(t == 0 for t in (*ticks, *operators)) if port == "stm32f405" else all(t > 0 for t in ticks) and sum(operators) > 0
    stack, arena, bad, _, runs = process.number(USAGE, b"", "5I")
    assert arena_bytes - 64 <= arena <= arena_bytes and bad == 0 and runs >= len(student.windows)
    assert 200 < stack < 1024 if port == "stm32f405" else stack == UNKNOWN


def test_a_reset_board_knows_nobody(board: tuple[str, Image, Process], student: Student) -> None:
    _, _, process = board
    process.greet()
    process.infer(student.windows[0], student.expected.shape[1])
    assert process.ask(RESET) == (0, b"")
    # What is sent before the line is up again is lost.
    answers = []
    while not answers:
        process.sequence += 1
        process.send(on_line(sound(CHECK, process.sequence)))
        answers = [frame for frame in [process.frame(0.5)] if frame]
    assert answers[0][0] == 0xFF and answers[0][10] == NOT_GREETED
    process.greet()
    assert process.number(USAGE, b"", "5I")[4] == 0
    assert process.ask(OUTPUT, struct.pack("<IH", 0, 1))[0] == NOT_RUN


def test_what_comes_in_during_an_inference_is_kept(board: tuple[str, Image, Process]) -> None:
    _, _, process = board
    process.greet()
    first = process.sequence + 1
    lines = [on_line(sound(RUN, first, struct.pack("<HHB", 20, 1, 0))), *(on_line(sound(CHECK, first + n)) for n in range(1, 21))]
    process.send(b"".join(lines))
    process.sequence = first + 20
    frames = [process.frame() for _ in lines]
    assert [struct.unpack_from("<BxH", frame) for frame in frames if frame] == [
        (RUN | 0x80, first),
        *((CHECK | 0x80, first + n) for n in range(1, 21)),
    ]


def test_a_process_ends_with_its_line(board: tuple[str, Image, Process]) -> None:
    port, image, _ = board
    if port == "stm32f405":
        pytest.skip("a microcontroller does not end")
    with Process([*RUNNERS[port], str(image.path)]) as process:
        process.greet()
        assert process.end() == 0


@pytest.mark.parametrize("family", ["lstm", "modalities"])
def test_every_kernel_is_exact_here(family: str, tmp_path: Path) -> None:
    student = Student(family, tmp_path)
    image = build_image(student.folder, tmp_path / "image", PORTS["host"], kernel_set="")
    with Process([str(image.path)]) as process:
        (*_, operators), _ = process.greet()
        assert operators == student.layers
        for window, expected in zip(student.windows, student.expected, strict=True):
            np.testing.assert_array_equal(process.infer(window, len(expected))[0], expected)


@pytest.mark.parametrize("port", PORTS)
def test_images_are_the_same_bytes_every_time(port: str, student: Student, images: Callable[[str], Image], tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "model"
    shutil.copytree(student.folder, other)
    first, second = images(port), build_image(other, tmp_path / "b", PORTS[port], kernel_set=KERNEL_SET)
    content = first.path.read_bytes()
    assert content == second.path.read_bytes()
    assert (first.flash_bytes, first.toolchain) == (second.flash_bytes, second.toolchain)
    for path in (str(tmp_path.parent), str(TEMPLATE.parents[2]), str(Path.home()) + "/.cache", "hwnas-image-", "hwnas-zig-"):
        assert path.encode() not in content


def test_the_link_takes_little_flash_and_leaves_kernels_alone(student: Student, images: Callable[[str], Image], tmp_path: Path) -> None:
    memory, image = read("stm32f405").memory, images("stm32f405")
    build(student.folder, tmp_path / "plain", CORTEX_M4, memory)
    with_link, plain = (read_elf(path, CORTEX_M4) for path in (image.path, tmp_path / "plain"))
    assert image.flash_bytes == with_link.flash_bytes
    assert 0 < with_link.flash_bytes - plain.flash_bytes < 6144
    assert 0 < with_link.ram_bytes - plain.ram_bytes < 3072
    kernels = set(plain.kernels.values()) - {"hwnas_run", "hwnas_model_run", "hwnas_harness_wait", "hwnas_model_version"}
    assert len(kernels) >= 5
    for kernel in kernels & set(with_link.sizes):
        assert with_link.sizes[kernel] == plain.sizes[kernel], kernel


def test_the_line_interrupt_is_in_its_place(images: Callable[[str], Image]) -> None:
    program = read_elf(images("stm32f405").path, CORTEX_M4)
    vectors = struct.unpack_from("<98I", program.flash)
    assert vectors[0] == program.symbols["__stack_top"]
    assert vectors[1] == program.symbols["Reset_Handler"] | 1
    assert {n: v for n, v in enumerate(vectors[16:]) if v} == {37: program.symbols["received"] | 1}


def test_a_port_of_ones_own_is_a_folder(student: Student, tmp_path: Path) -> None:
    """C as in the template, and a linker script if it has one."""
    mine, memory = tmp_path / "mine", read("nrf52840").memory
    shutil.copytree(TEMPLATE, mine)
    # As one of the link's files is called.
    (mine / "board.c").write_text("unsigned hwnas_mine(void);\n\nunsigned hwnas_mine(void)\n{\n    return 7;\n}\n")
    (mine / "port.c").write_text("unsigned hwnas_mine(void);\n" + (TEMPLATE / "port.c").read_text().replace("64000000u", "hwnas_mine()"))
    port = find_port(str(mine))
    with pytest.raises(UsageError, match="--profile"):
        build_image(student.folder, tmp_path / "image", port, kernel_set=KERNEL_SET)
    script = (TEMPLATE.parent / "cortex_m4" / "cortex_m4.ld").read_text()
    for own in (False, True):
        if own:
            (mine / "mine.ld").write_text(script + "\n__is_mine = 1;\n")
        program = read_elf(build_image(student.folder, tmp_path / "image", port, kernel_set=KERNEL_SET, memory=memory).path, CORTEX_M4)
        assert program.ram_region[1] == memory.sram.bytes
        assert program.symbols.get("__is_mine", 0) == own
    (mine / "other.ld").write_text("")
    with pytest.raises(FirmwareError, match=r"2 linker scripts \(mine\.ld, other\.ld\)"):
        build_image(student.folder, tmp_path / "image", port, kernel_set=KERNEL_SET, memory=memory)


def test_there_is_no_other_port(tmp_path: Path) -> None:
    assert find_port("host") is PORTS["host"]
    with pytest.raises(UsageError, match="stm32f405"):
        find_port("stm32f404")
    with pytest.raises(UsageError, match="holds no C file"):
        find_port(str(tmp_path))


@pytest.mark.parametrize("baud", [1000, 10_000_000])
def test_a_line_that_the_part_cannot_drive_is_refused(baud: int, student: Student, tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match="1282 to 5250000 are possible"):
        build_image(student.folder, tmp_path / "image", PORTS["stm32f405"], kernel_set=KERNEL_SET, baud=baud)


def test_what_does_not_fit_is_refused(student: Student, tmp_path: Path) -> None:
    memory = Memory.model_validate({"flash": {"origin": 0x08000000, "bytes": 8192}, "sram": {"origin": 0x20000000, "bytes": 4096}})
    with pytest.raises(FirmwareError, match=r"bytes more flash than its 8192 and \d+ bytes more RAM than its 4096"):
        build_image(student.folder, tmp_path / "image", PORTS["stm32f405"], kernel_set=KERNEL_SET, memory=memory)
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("kernel", ["hwnas_dense_int8", "hwnas_depthwise_conv1d_k5_s2_d1_c16"])
def test_a_delay_shows_in_its_operator_alone(student: Student, kernel: str) -> None:
    memory = read("cortex-m4-192k").memory
    right, slow = emulate(student.folder, CORTEX_M4, memory), emulate(student.folder, CORTEX_M4, memory, delay=Delay(kernel, 1000))
    np.testing.assert_array_equal(slow.run(student.windows), student.expected)
    before, after = (emulator.measure(student.windows[0]).per_operator for emulator in (right, slow))
    assert [name for name, _ in before] == [name for name, _ in after] and kernel in dict(before)
    for (name, ours), (_, theirs) in zip(before, after, strict=True):
        if name == kernel:
            assert 3000 <= theirs.cycles - ours.cycles <= 20_000
        else:
            assert theirs.cycles == ours.cycles


@pytest.mark.parametrize("port", ["host", "stm32f405"])
def test_a_delay_is_built_into_an_image_and_noted(port: str, student: Student, tmp_path: Path) -> None:
    before = kernel_set_hash(CORTEX_M4)
    delay = Delay("hwnas_depthwise_conv1d_k5_s2_d1_c16", 100)
    image = build_image(student.folder, tmp_path / "image", PORTS[port], kernel_set=before, delay=delay)
    assert kernel_set_hash(CORTEX_M4) == before
    with io.BytesIO(image.path.read_bytes()) as file:
        names = {s.name for s in ELFFile(file).get_section_by_name(".symtab").iter_symbols()}
    assert "hwnas_delayed_kernel" in names
    assert (delay.kernel in names) == (port == "stm32f405") and (GENERIC in names) == (port == "host")
    if port == "host":
        with Process([str(image.path)]) as process:
            assert process.greet()[1][5] == "hwnas_depthwise_conv1d_k5_s2_d1_c16 delayed by 100 loops"
            np.testing.assert_array_equal(process.infer(student.windows[0], student.expected.shape[1])[0], student.expected[0])


def test_only_kernels_of_the_student_can_be_delayed(student: Student, tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=r"hwnas_lstm_int8.*choose one of: .*hwnas_conv1d_int8"):
        build_image(student.folder, tmp_path / "image", PORTS["host"], kernel_set="", delay=Delay("hwnas_lstm_int8", 5))
    for loops in (0, -1, 2**31):
        with pytest.raises(FirmwareError, match="loops"):
            Delay("hwnas_conv1d_int16", loops)


def test_a_wrong_weight_shows_in_the_emulator(student: Student, tmp_path: Path) -> None:
    memory, elf = read("cortex-m4-192k").memory, tmp_path / "model.elf"
    build(student.folder, elf, CORTEX_M4, memory)
    content = elf.read_bytes()
    flip = find_flip(elf, lambda program: Emulator(program, CORTEX_M4).run(student.windows))
    assert elf.read_bytes() == content
    right, wrong = Emulator(elf, CORTEX_M4), emulate(student.folder, CORTEX_M4, memory, flip=flip)
    assert (wrong.run(student.windows) != right.run(student.windows)).any()
    assert wrong.measure(student.windows[0]).cycles == right.measure(student.windows[0]).cycles

    flip_weight(elf, tmp_path / "wrong.elf", flip)
    pairs = [(a, b) for a, b in zip(content, (tmp_path / "wrong.elf").read_bytes(), strict=True) if a != b]
    assert [a ^ b for a, b in pairs] == [flip.mask]


@pytest.fixture(scope="module")
def wrong(student: Student, images: Callable[[str], Image]) -> tuple[Flip, Int8]:
    """A wrong byte that shows on this machine, and the outputs with it."""
    found = {}

    def run(program: Path) -> Int8:
        found[program] = outputs([str(program)], student)
        return found[program]

    flip = find_flip(images("host").path, run)
    return flip, list(found.values())[-1]


def outputs(command: list[str], student: Student) -> Int8:
    with Process(command) as process:
        process.greet()
        return np.stack([process.infer(window, student.expected.shape[1])[0] for window in student.windows])


@pytest.mark.parametrize("port", RUNNERS)
def test_a_wrong_weight_shows_alike_on_every_port(port: str, student: Student, wrong: tuple[Flip, Int8], tmp_path: Path) -> None:
    flip, expected = wrong
    assert (expected != student.expected).any()
    image = build_image(student.folder, tmp_path / "image", PORTS[port], kernel_set="", flip=flip)
    np.testing.assert_array_equal(outputs([*runner(port), str(image.path)], student), expected)
    assert str(flip).encode() in image.path.read_bytes()


def test_flips_that_cannot_be(student: Student, images: Callable[[str], Image], tmp_path: Path) -> None:
    image = images("host").path
    for flip, said in (
        (Flip("packed_99", 0), "packed_99"),
        (Flip("packed_1", 10**6), "bytes"),
        (Flip("packed_1", -1), "bytes"),
        (Flip("packed_1", 0, 0), "mask"),
    ):
        with pytest.raises(FirmwareError, match=said):
            flip_weight(image, tmp_path / "wrong", flip)
    with pytest.raises(FirmwareError, match="no symbols"):
        flip_weight(images("linux-aarch64").path, tmp_path / "wrong", Flip("packed_1", 0))
    with pytest.raises(FirmwareError, match="none changes an output"):
        find_flip(image, lambda _: student.expected)
    (tmp_path / "text").write_text("no program")
    for path in (tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(FirmwareError, match="build it"):
            flip_weight(path, tmp_path / "wrong", Flip("packed_1", 0))
