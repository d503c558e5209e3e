"""The host's end of the link against a board in plain Python, under a clock that takes no time: results, refusals, faults and bounds."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from faulty_line import ALWAYS, KINDS, Fault, FaultKind, FaultyLine, MemoryLine, ReferenceBoard, VirtualClock, draw, expected_output

from hwnas.errors import FirmwareError, IdentityError, LinkError
from hwnas.firmware.board import Counter as Ticks
from hwnas.firmware.board import Identity, LinkedBoard, check_identity, read_identity
from hwnas.firmware.frames import ERROR, REPLY, Code, Frame, Kind, encode
from hwnas.firmware.link import Timeouts, Trouble
from hwnas.quantize.qgraph import Int8

TIMEOUTS = Timeouts(greeting_s=5.0, reply_s=1.0, first_run_s=2.0, call_s=15.0)
RUN_ARGUMENTS = {"warm_up": 1, "repeats": 3, "operators": True}
RUN_FRAMES = 7  # of one such run once the first inference is timed: 2 WRITE, CHECK, RUN, OPERATORS, OUTPUT; one more before


class Rig:
    """A board, its line and the host's end."""

    def __init__(self, board: ReferenceBoard | None = None, timeouts: Timeouts = TIMEOUTS, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.clock = VirtualClock()
        self.board = board or ReferenceBoard()
        self.memory = MemoryLine(self.board, self.clock)
        self.line = FaultyLine(self.memory, self.clock, self.rng, self.memory.reset, self.memory.vanish)
        self.linked = LinkedBoard(self.line, timeouts, clock=self.clock, session=0xABCD0000 + seed)

    def window(self) -> Int8:
        return self.rng.integers(-128, 128, (self.board.input_bytes, 1)).astype(np.int8)


def reason(rig: Rig, run: Callable[[], object]) -> str:
    with pytest.raises(FirmwareError) as caught:
        run()
    return str(caught.value)


def test_a_window_goes_there_and_its_output_comes_back() -> None:
    rig = Rig()
    for _ in range(3):
        window = rig.window()
        run = rig.linked.run(window, warm_up=2, repeats=5, operators=True)
        assert run.output.dtype == np.int8
        np.testing.assert_array_equal(run.output, expected_output(window, 6))
        assert len(run.ticks) == 5
        assert len(run.operator_ticks) == rig.board.operators
        assert run.ticks[0] // 1_000_000 == run.operator_ticks[0] // 1000  # of one and the same RUN
    assert rig.linked.trouble == Trouble()
    usage = rig.linked.usage()
    assert (usage.stack_bytes, usage.arena_bytes, usage.bad_frames, usage.stale_frames, usage.runs) == (None, 640, 0, 0, 4)


def test_the_identity_is_what_the_board_says() -> None:
    board = ReferenceBoard(strings=("Nucleo-F405, HSE", "zig 0.17", "k" * 12, "g" * 12, "w" * 12, "fehlerhaft: 1 µs"), stack_bytes=512)
    rig = Rig(board)
    assert rig.linked.identity == Identity(
        1, 512, 168_000_000, Ticks.CORE_CYCLES, 168_000_000, 1000, 6, 2048, 5, "Nucleo-F405, HSE", "zig 0.17",
        "k" * 12, "g" * 12, "w" * 12, "fehlerhaft: 1 µs",
    )  # fmt: skip
    assert rig.linked.usage().stack_bytes == 512


@pytest.mark.parametrize("payload_max", [18, 64, 512, 4096])
@pytest.mark.parametrize(("input_bytes", "output_bytes", "operators"), [(1, 1, 0), (508, 512, 64), (509, 513, 65), (3000, 1100, 300)])
def test_buffers_of_every_size(payload_max: int, input_bytes: int, output_bytes: int, operators: int) -> None:
    rig = Rig(ReferenceBoard(input_bytes, output_bytes, operators, payload_max))
    window = rig.window()
    run = rig.linked.run(window, repeats=3, operators=operators > 0)
    np.testing.assert_array_equal(run.output, expected_output(window, output_bytes))
    assert len(run.operator_ticks) == operators
    assert len(run.ticks) == 3


def test_more_repeats_than_one_answer_holds() -> None:
    rig = Rig()
    run = rig.linked.run(rig.window(), warm_up=1, repeats=150, operators=True)
    assert len(run.ticks) == 150
    assert [tick % 1_000_000 for tick in run.ticks] == [*range(62), *range(62), *range(26)]
    assert rig.board.requests.count(Kind.RUN) == 4  # one for its time


def test_a_single_inference_is_its_own_first_run() -> None:
    rig = Rig()
    rig.linked.run(rig.window())
    rig.linked.run(rig.window())
    assert rig.board.requests.count(Kind.RUN) == 2


def test_time_for_a_run_grows_with_what_it_does() -> None:
    """A board that takes longer than any reply may, and longer in sum than the first run may."""
    rig = Rig(ReferenceBoard(inference_s=1.9))
    run = rig.linked.run(rig.window(), warm_up=3, repeats=60)
    assert len(run.ticks) == 60
    assert rig.linked.trouble == Trouble()


def test_an_inference_that_never_ends_is_given_up() -> None:
    rig = Rig(ReferenceBoard(inference_s=1e9))
    bound_s = rig.linked.bound_s()
    said = reason(rig, lambda: rig.linked.run(rig.window()))
    assert "no answer to RUN after 3 of 3 tries in 12 s; " in said
    assert rig.clock.now <= bound_s
    assert rig.linked.trouble.retries == 2


def test_a_line_that_is_slower_than_expected_catches_up() -> None:
    """Every try adds to what the board has to work off; the waits grow with it."""
    rig = Rig(ReferenceBoard(inference_s=2.7))
    window = rig.window()
    np.testing.assert_array_equal(rig.linked.run(window).output, expected_output(window, 6))
    assert (rig.linked.trouble.retries, rig.linked.trouble.stale_replies) == (1, 1)


def test_a_board_that_dawdles_without_end_is_given_up() -> None:
    """Every answer comes in time, all of them together do not."""
    rig = Rig(ReferenceBoard(input_bytes=10_000))
    serve = rig.board._serve

    def slowly(kind: int, payload: bytes) -> bytes | Code:
        rig.board.took_s = 0.9
        return serve(kind, payload)

    rig.board._serve = slowly  # type: ignore[method-assign]
    start = rig.clock.now
    said = reason(rig, lambda: rig.linked.run(rig.window()))
    assert "no answer to WRITE after 1 of 4 tries" in said or "no answer to CHECK" in said
    assert "and the time for this window's traffic (15 s) was used up" in said
    assert rig.clock.now - start <= TIMEOUTS.call_s


def test_a_late_board_is_greeted_until_it_answers() -> None:
    """A board that boots for 3 s after banners of text, as one that a port's opening reset."""
    clock = VirtualClock()
    line = MemoryLine(ReferenceBoard(), clock)
    line._busy_until = 3.0
    line._answers = [(0.0, b"ROM boot v1.2\r\n"), (0.7, b"clock ok\r\n")]
    with LinkedBoard(line, TIMEOUTS, clock=clock) as linked:
        window = np.zeros(1000, np.int8)
        np.testing.assert_array_equal(linked.run(window).output, expected_output(window, 6))
        assert linked.trouble.greetings == 3
        assert linked.trouble.bad_frames == 1  # the second line of text; the first was there before
    assert line.is_closed


def test_a_slow_board_is_greeted_with_growing_patience() -> None:
    """A greeting that takes longer than the first try waits, each time."""
    board = ReferenceBoard()
    answer = board._answer

    def slowly(frame: Frame) -> Frame | None:
        board.took_s = 0.7
        return answer(frame)

    board._answer = slowly  # type: ignore[method-assign]
    clock = VirtualClock()
    with LinkedBoard(MemoryLine(board, clock), TIMEOUTS, clock=clock) as linked:
        assert linked.trouble.greetings


class Silent:
    """A line on which only `noise` ever comes."""

    name = "serial:/dev/ttyACM0"

    def __init__(self, clock: VirtualClock, noise: bytes = b"") -> None:
        self.clock, self.noise, self.is_closed = clock, noise, False

    def read(self, timeout_s: float) -> bytes:
        if self.noise:
            self.clock.now += len(self.noise) / 11520
        else:
            self.clock.now += timeout_s
        return self.noise

    def write(self, data: bytes, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("noise", "words"),
    [(b"", "not one byte has ever arrived"), (b"\x80\0\xf0" * 30, "frames were damaged or text"), (b"\0" * 200, "0 frames were damaged")],
)
def test_a_line_without_a_board_says_what_was_seen(noise: bytes, words: str) -> None:
    clock = VirtualClock()
    line = Silent(clock, noise)
    with pytest.raises(LinkError) as caught:
        LinkedBoard(line, TIMEOUTS, clock=clock)
    said = str(caught.value)
    assert said.startswith("serial:/dev/ttyACM0: no answer to 4 HELLOs in 5 s; ")
    assert words in said
    assert "baud" in said
    assert line.is_closed
    assert clock.now <= 5.0 + (1 << 16) / 11520 + 0.1


def test_a_reset_between_two_requests_is_told() -> None:
    rig = Rig()
    rig.linked.run(rig.window())
    rig.memory.reset()
    said = reason(rig, lambda: rig.linked.run(rig.window()))
    assert "error 2 (NOT_GREETED)" in said
    assert "the board was reset" in said
    assert "supply" in said


class Scripted(ReferenceBoard):
    """A board whose answers a test replaces."""

    def _answer(self, frame: Frame) -> Frame | None:
        answer = super()._answer(frame)
        return self.change(frame, answer) if answer else None

    change: Callable[[Frame, Frame], Frame | None] = staticmethod(lambda request, answer: answer)


def scripted(change: Callable[[Frame, Frame], Frame | None]) -> Rig:
    board = Scripted()
    board.change = change  # type: ignore[method-assign]
    return Rig(board)


@pytest.mark.parametrize("code", [*Code, 99])
def test_every_refusal_has_its_reason(code: int) -> None:
    def refuse(request: Frame, answer: Frame) -> Frame:
        refusal = Frame(ERROR, answer.sequence, answer.session, struct.pack("<H", code) + b"because")
        return refusal if request.kind == Kind.CHECK else answer

    rig = scripted(refuse)
    said = reason(rig, lambda: rig.linked.run(rig.window()))
    assert f"the board refuses CHECK with error {code} (because): " in said
    assert rig.board.requests.count(Kind.CHECK) == 1  # a refusal is no reason to ask again


@pytest.mark.parametrize("field", ["sequence", "session", "kind"])
def test_an_answer_to_another_question_is_not_taken(field: str) -> None:
    rig = scripted(
        lambda request, answer: dataclasses.replace(answer, **{field: getattr(answer, field) ^ 1}) if request.kind == 4 else answer
    )
    said = reason(rig, lambda: rig.linked.run(rig.window()))
    assert "no answer to RUN after 3 of 3 tries" in said
    assert rig.linked.trouble.stale_replies == 3
    assert rig.linked.trouble.retries == 2


def altered(kind: Kind, change: Callable[[bytes], bytes], times: int = ALWAYS) -> Rig:
    """A board whose first `times` answers to `kind` are changed and still sound frames: memory that is not sound."""
    left = [times]

    def apply(request: Frame, answer: Frame) -> Frame:
        if request.kind == kind and left[0]:
            left[0] -= 1
            return dataclasses.replace(answer, payload=change(answer.payload))
        return answer

    return scripted(apply)


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda payload: payload[:at] + bytes([payload[at] ^ 4]) + payload[at + 1 :]


def test_a_window_that_arrived_otherwise_is_sent_again() -> None:
    rig = altered(Kind.CHECK, flip(0), times=2)
    window = rig.window()
    np.testing.assert_array_equal(rig.linked.run(window).output, expected_output(window, 6))
    assert rig.linked.trouble == Trouble(rewrites=2)


def test_an_output_that_was_read_otherwise_is_read_again() -> None:
    rig = altered(Kind.OUTPUT, flip(3), times=2)
    window = rig.window()
    np.testing.assert_array_equal(rig.linked.run(window).output, expected_output(window, 6))
    assert rig.linked.trouble == Trouble(rereads=2)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (Kind.CHECK, flip(0), "does not hold the window after it was written 4 times"),
        (Kind.OUTPUT, flip(5), "is not the one that the run reported"),
        (Kind.RUN, flip(1), "the board ran another window"),
        (Kind.RUN, flip(5), "is not the one that the run reported"),
        (Kind.RUN, flip(8), "another number of times"),
        (Kind.RUN, lambda payload: payload[:-1], "answers RUN with 17 bytes instead of 18"),
        (Kind.WRITE, lambda payload: b"?", "answers WRITE with 1 bytes instead of 0"),
        (Kind.CHECK, lambda payload: b"", "answers CHECK with 0 bytes instead of 4"),
        (Kind.OUTPUT, lambda payload: payload + b"\0", "answers OUTPUT with 7 bytes instead of 6"),
    ],
)
def test_results_that_do_not_fit_are_refused(kind: Kind, change: Callable[[bytes], bytes], words: str) -> None:
    rig = altered(kind, change)
    assert words in reason(rig, lambda: rig.linked.run(rig.window()))


def test_outputs_that_differ_from_run_to_run_are_refused() -> None:
    seen = []

    def change(request: Frame, answer: Frame) -> Frame:
        seen.append(request.kind)
        return dataclasses.replace(answer, payload=flip(5)(answer.payload)) if seen.count(Kind.RUN) == 3 and request.kind == 4 else answer

    rig = scripted(change)
    assert "differ from run to run" in reason(rig, lambda: rig.linked.run(rig.window(), repeats=100))


def test_the_timing_is_of_one_answer() -> None:
    """The answer to the first RUN is lost: the figures are those of the second, all of them."""
    rig = Rig()
    rig.linked.run(rig.window())
    rig.line.arm(Fault("dropped", to_board=False, first=3, number=1, scale_s=1.0))
    run = rig.linked.run(rig.window(), repeats=4, operators=True)
    assert {tick // 1_000_000 for tick in run.ticks} == {3} == {tick // 1000 for tick in run.operator_ticks}
    assert rig.linked.trouble == Trouble(retries=1)


def test_a_request_that_arrives_twice_is_done_once() -> None:
    rig = Rig()
    rig.line.arm(Fault("duplicated", to_board=True, first=0, number=ALWAYS, scale_s=0.0))
    rig.linked.run(rig.window())
    assert Counter(rig.board.requests) == {Kind.HELLO: 1, Kind.WRITE: 2, Kind.CHECK: 1, Kind.RUN: 1, Kind.OUTPUT: 1}
    assert rig.linked.usage().stale_frames >= 5


def test_sequence_numbers_wrap() -> None:
    rig = Rig(ReferenceBoard(input_bytes=4))
    rig.linked._link._sequence = rig.board._last = 0xFFFD
    for _ in range(3):
        window = rig.window()
        np.testing.assert_array_equal(rig.linked.run(window).output, expected_output(window, 6))
    assert rig.linked.trouble == Trouble()
    assert rig.linked._link._sequence < 100


def test_old_bytes_are_thrown_away_before_a_greeting() -> None:
    clock = VirtualClock()
    line = MemoryLine(ReferenceBoard(), clock)
    old = encode(Frame(Kind.HELLO | REPLY, 1, 7, ReferenceBoard(input_bytes=9).identity()))
    line._answers = [(0.0, old[:-5]), (0.0, old)]
    linked = LinkedBoard(line, TIMEOUTS, clock=clock, session=7)
    assert linked.identity.input_bytes == 1000
    assert linked.trouble == Trouble()


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (np.zeros(999, np.int8), "the window is int8 of 999 values; the board reads int8 of 1000"),
        (np.zeros(1000, np.uint8), "the window is uint8 of 1000 values"),
    ],
)
def test_a_window_of_another_size_is_refused_before_it_is_sent(window: Int8, words: str) -> None:
    rig = Rig()
    assert words in reason(rig, lambda: rig.linked.run(window))
    assert rig.board.requests == [Kind.HELLO]


@pytest.mark.parametrize(("warm_up", "repeats"), [(-1, 1), (0, 0), (65536, 1)])
def test_impossible_numbers_of_runs(warm_up: int, repeats: int) -> None:
    rig = Rig()
    assert f"{warm_up} untimed and {repeats} timed runs" in reason(
        rig, lambda: rig.linked.run(rig.window(), warm_up=warm_up, repeats=repeats)
    )


# Identities


def test_an_identity_that_is_cut_anywhere_is_refused() -> None:
    whole = ReferenceBoard().identity()
    assert read_identity(whole, "x").board == "reference"
    for size in range(len(whole)):
        with pytest.raises(LinkError, match="identity cannot be read"):
            read_identity(whole[:size], "x")


@pytest.mark.parametrize(
    ("board", "words"),
    [
        (ReferenceBoard(protocol=2), "version 2 of the protocol"),
        (ReferenceBoard(payload_max=17), "payload_max_bytes 17"),
        (ReferenceBoard(input_bytes=0), "input_bytes 0"),
        (ReferenceBoard(counter=3), "cannot be read"),
        (ReferenceBoard(output_bytes=1 << 25), "output_bytes 33554432"),
    ],
)
def test_identities_that_cannot_be(board: ReferenceBoard, words: str) -> None:
    with pytest.raises(LinkError, match=words):
        read_identity(board.identity(), "x")


def test_other_firmware_is_refused_before_anything_runs() -> None:
    rig = Rig()
    check_identity(rig.linked.identity, kernel_set="kernels", graph_hash="graph", weights_hash="weights")
    with pytest.raises(IdentityError) as caught:
        check_identity(rig.linked.identity, kernel_set="others", graph_hash="graph", weights_hash="mine")
    said = str(caught.value)
    assert "its kernel set is kernels, expected others; its weights hash is weights, expected mine" in said
    assert "graph" not in said
    with pytest.raises(IdentityError, match=r"a fault was built into it \(slow\), and none was asked for"):
        faulty = dataclasses.replace(rig.linked.identity, note="slow")
        check_identity(faulty, kernel_set="kernels", graph_hash="graph", weights_hash="weights")
    check_identity(faulty, kernel_set="kernels", graph_hash="graph", weights_hash="weights", has_fault=True)
    assert rig.board.requests == [Kind.HELLO]


# Faults: a right result or a reason, within the stated bound


def struck(kind: FaultKind, seed: int) -> tuple[str, Rig, str]:
    """One faulty run: what came of it."""
    rig = Rig(seed=seed)
    rig.line.arm(draw(kind, RUN_FRAMES, TIMEOUTS.reply_s, rig.rng))
    window, start = rig.window(), rig.clock.now
    bound_s = rig.linked.bound_s(**RUN_ARGUMENTS)
    try:
        run = rig.linked.run(window, **RUN_ARGUMENTS)
    except LinkError as error:
        outcome, said = "reason", str(error)
    else:
        np.testing.assert_array_equal(run.output, expected_output(window, 6))
        assert {tick // 1_000_000 for tick in run.ticks} == {tick // 1000 for tick in run.operator_ticks}
        outcome, said = "right", ""
    assert rig.clock.now - start <= bound_s
    return outcome, rig, said


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_gives_a_wrong_result_or_no_end(kind: FaultKind) -> None:
    found = [struck(kind, seed) for seed in range(60)]
    outcomes = Counter(outcome for outcome, _, _ in found)
    assert outcomes["right"] > 0
    for outcome, rig, said in found:
        trouble = rig.linked.trouble
        if outcome == "reason":
            assert said.startswith("memory: ")
            assert len(said) > 40
        if kind in ("dropped", "flipped") and rig.line.struck:
            assert trouble.retries > 0  # never mended in silence
        assert trouble.retries <= 40
    if kind in ("dropped", "flipped", "reset", "vanished", "babble"):
        assert outcomes["reason"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_connection_works_whatever_was_left_on_the_line(kind: FaultKind) -> None:
    for seed in range(12):
        _, rig, _ = struck(kind, seed)
        rig.line.arm(None)
        rig.memory.is_gone = False
        again = LinkedBoard(rig.line, TIMEOUTS, clock=rig.clock, session=99)
        window = rig.window()
        np.testing.assert_array_equal(again.run(window).output, expected_output(window, 6))


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_gives_a_wrong_result_or_no_end_long(kind: FaultKind) -> None:
    for seed in range(1000, 4000):
        struck(kind, seed)
