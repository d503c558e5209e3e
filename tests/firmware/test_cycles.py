"""The cycle model, rule by rule, against counts made by hand from the rules of the reference manual; small functions are also executed."""

from __future__ import annotations

import pytest
from assembled import PREFIX, RAM, assemble, program

from hwnas.errors import FirmwareError
from hwnas.firmware.cores import core
from hwnas.firmware.counting import OperatorRun, Watch
from hwnas.firmware.cycles import CycleModel
from hwnas.firmware.machine import Machine

BASE = 0x08000000
CODE = {
    "add r0, r1, r2": "01eb0200",
    "mul r0, r1, r2": "01fb02f0",
    "mla r0, r1, r2, r3": "01fb0230",
    "smlad r0, r1, r2, r3": "21fb0230",
    "smull r0, r3, r2, r3": "82fb0301",
    "ssat r0, #8, r1": "01f30700",
    "sxtb16 r0, r1": "2ffa81f0",
    "smmlar r0, r1, r2, r3": "51fb1230",
    "udiv r0, r1, r2": "b1fbf2f0",
    "ldr r0, [r1]": "0868",
    "ldr r2, [r1, #4]": "4a68",
    "ldr r3, [r0]": "0368",
    "ldr r4, [r1], #4": "51f8044b",
    "ldrsb r5, [r1, r2]": "8d56",
    "str r0, [r1]": "0860",
    "str r0, [r1, r2]": "8850",
    "add r1, r1, #4": "01f10401",
    "ldrd r4, r5, [r1]": "d1e90045",
    "strd r4, r5, [r1]": "c1e90045",
    "push {r4, r5, lr}": "30b5",
    "ldm r1!, {r4-r7}": "f0c9",
    "stm r1!, {r4, r5}": "30c1",
    "it eq": "08bf",
    "moveq r0, r1": "0846",
    "nop": "00bf",
    "vmla.f32 s0, s1, s2": "00ee810a",
    "vfma.f32 s0, s1, s2": "a0ee810a",
    "vdiv.f32 s0, s1, s2": "80ee810a",
    "vsqrt.f32 s0, s1": "b1eee00a",
    "vadd.f32 s0, s1, s2": "30ee810a",
    "vmov s0, r1": "00ee101a",
    "vldr s0, [r1]": "91ed000a",
    "vldr d0, [r1]": "91ed000b",
    "vpush {s0, s1}": "2ded020a",
    "bne": "0bd1",
    "b": "0ae0",
    "bl": "00f009f8",
    "bx lr": "7047",
    "blx r3": "9847",
    "pop {r4, pc}": "10bd",
    "cbz r0": "20b1",
    "tbb [pc, r0]": "dfe800f0",
    "ldr pc, [r1]": "d1f800f0",
}


def count(*lines: str) -> int:
    code = bytes.fromhex("".join(CODE[line] for line in lines))
    return CycleModel(code, BASE).block(BASE, len(code))


@pytest.mark.parametrize(
    ("line", "cycles"),
    [
        ("add r0, r1, r2", 1),
        ("mul r0, r1, r2", 1),
        ("mla r0, r1, r2, r3", 1),
        ("smlad r0, r1, r2, r3", 1),
        ("smull r0, r3, r2, r3", 1),
        ("ssat r0, #8, r1", 1),
        ("sxtb16 r0, r1", 1),
        ("smmlar r0, r1, r2, r3", 1),
        ("udiv r0, r1, r2", 7),
        ("ldr r0, [r1]", 2),
        ("ldrsb r5, [r1, r2]", 2),
        ("str r0, [r1]", 1),
        ("str r0, [r1, r2]", 2),
        ("ldrd r4, r5, [r1]", 3),
        ("strd r4, r5, [r1]", 3),
        ("push {r4, r5, lr}", 1 + 3),
        ("ldm r1!, {r4-r7}", 1 + 4),
        ("stm r1!, {r4, r5}", 1 + 2),
        ("it eq", 1),
        ("nop", 1),
        ("vmla.f32 s0, s1, s2", 3),
        ("vfma.f32 s0, s1, s2", 3),
        ("vdiv.f32 s0, s1, s2", 14),
        ("vsqrt.f32 s0, s1", 14),
        ("vadd.f32 s0, s1, s2", 1),
        ("vmov s0, r1", 1),
        ("vldr s0, [r1]", 2),
        ("vldr d0, [r1]", 3),
        ("vpush {s0, s1}", 1 + 2),
    ],
)
def test_single_instructions(line: str, cycles: int) -> None:
    assert count(line) == cycles


def test_load_directly_after_a_load_overlaps() -> None:
    assert count("ldr r0, [r1]", "ldr r2, [r1, #4]") == 2 + 1
    assert count("ldr r0, [r1]", "ldr r2, [r1, #4]", "ldr r0, [r1]") == 2 + 1 + 1
    assert count("ldr r0, [r1]", "add r0, r1, r2", "ldr r2, [r1, #4]") == 2 + 1 + 2


def test_load_of_an_address_just_loaded_waits() -> None:
    assert count("ldr r0, [r1]", "ldr r3, [r0]") == 2 + 2 + 1


def test_address_written_just_before_costs_one() -> None:
    assert count("add r1, r1, #4", "ldr r0, [r1]") == 1 + 2 + 1
    assert count("add r1, r1, #4", "str r0, [r1]") == 1 + 1 + 1
    assert count("add r1, r1, #4", "nop", "ldr r0, [r1]") == 1 + 1 + 2
    # Write-back of the load before is such a write.
    assert count("ldr r4, [r1], #4", "ldr r0, [r1]") == 2 + 2 + 1


def test_stores_after_loads_hide_the_register_offset() -> None:
    assert count("ldr r4, [r1], #4", "str r0, [r1]") == 2 + 1 + 1
    assert count("ldr r3, [r0]", "str r0, [r1, r2]") == 2 + 1
    assert count("ldr r2, [r1, #4]", "str r0, [r1, r2]") == 2 + 2 + 1
    # A store is no load: what follows does not overlap it.
    assert count("str r0, [r1]", "ldr r0, [r1]") == 1 + 2


def test_multiple_loads_do_not_overlap_the_next() -> None:
    assert count("ldrd r4, r5, [r1]", "ldr r0, [r1]") == 3 + 2


def test_conditional_move_counts_with_its_it() -> None:
    assert count("it eq", "moveq r0, r1") == 2


@pytest.mark.parametrize(
    ("line", "straight", "refill"),
    [
        ("bne", 1, 1),
        ("b", 1, 1),
        ("bl", 1, 1),
        ("cbz r0", 1, 1),
        ("bx lr", 1, 2),
        ("blx r3", 1, 2),
        ("pop {r4, pc}", 1 + 2, 2),
        ("ldr pc, [r1]", 2, 2),
        ("tbb [pc, r0]", 2, 2),
    ],
)
def test_branches_refill_only_when_taken(line: str, straight: int, refill: int) -> None:
    code = bytes.fromhex(CODE[line])
    model = CycleModel(code, BASE)
    assert model.block(BASE, len(code)) == straight
    assert model.transition(BASE, len(code), BASE + 0x100)[0] == refill
    assert model.transition(BASE, len(code), BASE + len(code))[0] == 0


def test_a_block_split_in_two_costs_what_it_cost_whole() -> None:
    lines = ["ldr r0, [r1]", "ldr r2, [r1, #4]", "add r1, r1, #4", "str r0, [r1]", "ldr r2, [r1, #4]", "ldr r4, [r1], #4"]
    code = bytes.fromhex("".join(CODE[line] for line in lines))
    whole = CycleModel(code, BASE).block(BASE, len(code))
    cut = 0
    for line in lines[:-1]:
        cut += len(CODE[line]) // 2
        model = CycleModel(code, BASE)
        refill, last = model.transition(BASE, cut, BASE + cut)
        assert refill == 0
        assert model.block(BASE, cut) + model.block(BASE + cut, len(code) - cut, last) == whole


def test_a_jump_without_a_branch_is_refused() -> None:
    model = CycleModel(bytes.fromhex(CODE["nop"]), BASE)
    with pytest.raises(FirmwareError, match="without a branch"):
        model.transition(BASE, 2, BASE + 0x40)


@pytest.mark.parametrize(("address", "size"), [(BASE + 64, 2), (BASE - 2, 2), (0x20000000, 2), (BASE, 64)])
def test_code_outside_the_program_is_refused(address: int, size: int) -> None:
    with pytest.raises(FirmwareError, match="no Thumb code"):
        CycleModel(bytes.fromhex(CODE["nop"]), BASE).block(address, size)


# Functions with their cycles, counted by hand. r0 and r1 are addresses in RAM (r0 points at a word that holds r1), r2 is 5, r3 is 0.
RETURN = 1 + 2
FUNCTIONS = {
    "loads_in_a_row": ("ldr r2, [r0]; ldr r3, [r0, #4]; ldr r12, [r1]; bx lr", 2 + 1 + 1 + RETURN),
    "a_load_of_a_loaded_address": ("ldr r0, [r0]; ldr r2, [r0]; bx lr", 2 + (2 + 1) + RETURN),
    "an_address_just_computed": ("add r0, r0, #4; ldr r2, [r0]; bx lr", 1 + (2 + 1) + RETURN),
    "an_address_computed_before": ("add r0, r0, #4; nop; ldr r2, [r0]; bx lr", 1 + 1 + 2 + RETURN),
    "written_back_addresses": ("ldr r2, [r0], #4; ldr r3, [r0], #4; ldr r2, [r1], #4; bx lr", 2 + (2 + 1) + 1 + RETURN),
    "stores": ("str r2, [r0]; str r2, [r1, r3]; str r2, [r0, #4]; bx lr", 1 + 2 + 1 + RETURN),
    "a_store_after_a_load": ("ldr r2, [r0]; str r2, [r1, r3]; str r2, [r1, r3]; bx lr", 2 + 1 + 2 + RETURN),
    "doubles": ("ldrd r2, r3, [r0]; strd r2, r3, [r1]; bx lr", 3 + 3 + RETURN),
    "multiples": ("push {r4-r7, lr}; ldm r0!, {r4-r7}; stm r1!, {r4-r6}; pop {r4-r7, pc}", (1 + 5) + (1 + 4) + (1 + 3) + (1 + 5 + 2)),
    "a_loop": ("movs r3, #4; 1: adds r2, #1; subs r3, #1; bne 1b; bx lr", 1 + 4 * 3 + 3 * 1 + RETURN),
    "a_branch_not_taken": ("cmp r2, #5; bne 1f; nop; 1: bx lr", 1 + 1 + 1 + RETURN),
    "a_branch_over": ("cmp r2, #5; beq 1f; nop; 1: bx lr", 1 + (1 + 1) + RETURN),
    "compare_and_branch": ("cbz r3, 1f; nop; 1: cbnz r3, 2f; nop; 2: bx lr", (1 + 1) + 1 + 1 + RETURN),
    "if_then": ("cmp r2, #5; ite eq; moveq r3, #1; movne r3, #2; bx lr", 1 + 1 + 1 + 1 + RETURN),
    "a_load_if_then": ("cmp r2, #5; it eq; ldreq r3, [r0]; nop; bx lr", 1 + 1 + 2 + 1 + RETURN),
    "products": ("smlad r3, r0, r1, r3; smlabb r3, r0, r1, r3; smlabt r3, r0, r1, r3; smmlar r2, r0, r1, r2; bx lr", 4 + RETURN),
    "packing": ("sxtb16 r2, r0, ror #8; pkhbt r2, r2, r3, lsl #16; bfi r2, r3, #8, #8; ssat r2, #8, r2; bx lr", 4 + RETURN),
    "a_divide": ("udiv r3, r0, r2; bx lr", 7 + RETURN),
    "a_call": ("push {r4, lr}; bl 1f; pop {r4, pc}; 1: nop; bx lr", (1 + 2) + (1 + 1) + 1 + RETURN + (1 + 2 + 2)),
    "a_call_of_a_pointer": ("push {r4, lr}; adr r3, 1f; adds r3, #1; blx r3; pop {r4, pc}; .p2align 2; 1: bx lr", 3 + 2 + 3 + 3 + 5),
    "a_table": ("tbb [pc, r3]; 1: .byte (2f - 1b) / 2, 0; 2: bx lr", (2 + 2) + RETURN),
}


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(program(assemble({name: body for name, (body, _) in FUNCTIONS.items()} | MEMORY)), core("cortex-m4"))


# Functions for what is counted beside cycles.
MEMORY = {
    "aligned": "ldr r2, [r0]; ldrh r3, [r0, #2]; ldrb r3, [r0, #3]; ldr r2, [r0, #4]; str r2, [r1]; bx lr",
    "unaligned": "ldr r2, [r0, #2]; ldr r2, [r0, #1]; ldrh r3, [r0, #1]; str r2, [r1, #3]; bx lr",
    "two_literals": "ldr r2, =0x12345678; ldr r3, =0x23456789; bx lr; .pool",
    "one_line": "movs r3, #9; 1: subs r3, #1; bne 1b; bx lr",
    "three_lines": "nop; " * 20 + "bx lr",
    "a_loop_over_two_lines": "movs r3, #5; 1: " + "nop; " * 8 + "subs r3, #1; bne 1b; bx lr",
    "a_loop_in_the_second_line": "movs r3, #5; " + "nop; " * 7 + "1: subs r3, #1; bne 1b; bx lr",
    "a_conditional_load": (
        "adr r3, 2f; cmp r2, #5; it eq; ldreq r3, [r3]; cmp r2, #6; b 1f; nop; .p2align 2; 2: .word 7; 1: str r3, [r1]; bx lr"
    ),
    "three_words_of_stack": "push {r4, r5, lr}; pop {r4, r5, pc}",
}


def executed(machine: Machine, name: str, watch: Watch = Watch.READS) -> OperatorRun:
    machine.write(RAM, (RAM + 64).to_bytes(4, "little"))
    call = machine.call(machine.program.address(PREFIX + name), RAM, RAM + 64, 5, 0, watch=watch)
    assert [operator for operator, _ in call.operators] == [PREFIX + name]
    assert call.frame.cycles == 0
    return call.operators[0][1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_executed_functions(name: str, machine: Machine) -> None:
    assert executed(machine, name).cycles == FUNCTIONS[name][1]


def test_unaligned_accesses_are_split(machine: Machine) -> None:
    aligned, unaligned = (executed(machine, name, Watch.ALIGNMENT) for name in ("aligned", "unaligned"))
    assert (aligned.unaligned, unaligned.unaligned) == (0, 4)
    assert aligned.cycles == executed(machine, "aligned").cycles
    # Two halfwords; byte, halfword, byte; two bytes; byte, halfword, byte.
    assert unaligned.cycles == executed(machine, "unaligned").cycles + 1 + 2 + 1 + 2


@pytest.mark.parametrize("watch", list(Watch)[1:])
def test_watching_does_not_disturb(watch: Watch, machine: Machine) -> None:
    """Unicorn forgets to end an IT block in which it called a hook: what follows would be skipped."""
    machine.write(RAM + 64, bytes(4))
    executed(machine, "a_conditional_load", watch)
    assert machine.read(RAM + 64, 4) == (7).to_bytes(4, "little")


def test_bytes_read_from_flash(machine: Machine) -> None:
    assert executed(machine, "two_literals").flash_read_bytes == 8
    assert executed(machine, "aligned").flash_read_bytes == 0
    assert executed(machine, "two_literals", Watch.CYCLES).flash_read_bytes == 0


@pytest.mark.parametrize(
    ("name", "lines"),
    [("one_line", 1), ("three_lines", 3), ("a_loop_over_two_lines", 5 * 2), ("a_loop_in_the_second_line", 2)],
)
def test_fetched_lines(name: str, lines: int, machine: Machine) -> None:
    assert executed(machine, name).fetch_lines == lines


def test_stack_of_an_operator(machine: Machine) -> None:
    assert executed(machine, "three_words_of_stack").stack_bytes == 12
    assert executed(machine, "one_line").stack_bytes == 0
