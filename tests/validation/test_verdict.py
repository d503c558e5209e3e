"""Verdicts: closed forms on made-up figures, and what must hold for any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import PREDICTED_CYCLES, record

from hwnas.validation.config import Limits
from hwnas.validation.reading import Reading, reading
from hwnas.validation.verdict import BASELINE_NIGHTS, Drift, Past, beyond, judge, not_reached, refused, unmetered

LIMITS = Limits()
SLOWER = (*PREDICTED_CYCLES[:2], 2 * PREDICTED_CYCLES[2], PREDICTED_CYCLES[3])


def read(**changes: Any) -> Reading:
    return reading(record(**changes), "emulator")


def past(night: int, found: Reading, kind: Any = "pass", drifts: tuple[Drift, ...] = (), fault: str = "") -> Past:
    return Past(night, kind, found, drifts, fault)


def test_the_first_night_is_compared_with_the_prediction_alone_and_says_so() -> None:
    verdict = judge(read(), LIMITS, [], 1)
    assert (verdict.kind, verdict.drifts) == ("pass", ())
    assert verdict.notes == ("no passing night before: compared with the prediction only",)


def test_a_slow_operator_is_named_with_how_much_and_since_when() -> None:
    verdict = judge(read(cycles=SLOWER), LIMITS, [past(1, read())], 2)
    assert verdict.kind == "drift"
    found = {(d.quantity, d.operator, d.against): d for d in verdict.drifts}
    name = "2 hwnas_depthwise_conv1d_k5_s4_d1_c48"
    assert set(found) == {
        ("cycles", "", "predicted"),
        ("latency", "", "history"),
        ("energy", "", "predicted"),
        ("energy", "", "history"),
        ("operator", name, "predicted"),
        ("operator", name, "history"),
    }
    drift = found["operator", name, "history"]
    assert (drift.change, drift.expected, drift.found, drift.since) == (100.0, 23_870, 47_740, 2)
    assert found["latency", "", "history"].change == pytest.approx(23_870 / sum(PREDICTED_CYCLES) * 100)
    assert name in verdict.reason and "+100 %" in verdict.reason and "since night 2" in verdict.reason and "(and 5 more)" in verdict.reason


def test_faster_is_drift_too() -> None:
    assert judge(read(cycles=(*PREDICTED_CYCLES[:3], 150)), LIMITS, [], 1).kind == "drift"


def test_since_is_the_first_of_the_nights_without_interruption() -> None:
    slow = judge(read(cycles=SLOWER), LIMITS, [past(1, read())], 2)
    drifted = [past(n, read(cycles=SLOWER), "drift", slow.drifts) for n in (2, 3, 5)]
    assert {d.since for d in judge(read(cycles=SLOWER), LIMITS, [past(1, read()), *drifted], 6).drifts} == {2}
    between = [past(1, read()), drifted[0], past(3, read()), drifted[2]]
    assert {d.since for d in judge(read(cycles=SLOWER), LIMITS, between, 6).drifts} == {5}


def test_a_night_with_a_fault_is_neither_a_baseline_nor_the_first_of_a_drift() -> None:
    slow = judge(read(cycles=SLOWER), LIMITS, [past(1, read())], 2)
    history = [
        past(1, read()),
        past(2, read(cycles=SLOWER), "drift", slow.drifts, "delay:x:1"),
        past(3, read(cycles=SLOWER), fault="delay:x:1"),
    ]
    assert judge(read(), LIMITS, history, 4).kind == "pass"
    again = judge(read(cycles=SLOWER), LIMITS, history, 4)
    assert {d.since for d in again.drifts} == {4}
    assert {d.expected for d in again.drifts if d.quantity == "operator"} == {23_870}


def test_the_baseline_is_the_median_of_the_last_passing_nights() -> None:
    lax = Limits(predicted_percent=1000.0, latency_percent=0.001, energy_percent=1000.0, operator_percent=1000.0)
    old = [past(n, read(cycles=(*PREDICTED_CYCLES[:3], 100_000))) for n in range(1, 30)]
    recent = [past(30 + n, read(cycles=(*PREDICTED_CYCLES[:3], 300 + 128 * n))) for n in range(BASELINE_NIGHTS)]
    failed = [past(90, read(cycles=(*PREDICTED_CYCLES[:3], 100_000)), "fail")]
    middle = (*PREDICTED_CYCLES[:3], 300 + 128 * (BASELINE_NIGHTS // 2))
    assert judge(read(cycles=middle), lax, [*old, *recent, *failed], 91).kind == "pass"
    (drift,) = judge(read(cycles=(*middle[:3], middle[3] + 128)), lax, [*old, *recent, *failed], 91).drifts
    assert (drift.quantity, drift.against, drift.found - drift.expected) == ("latency", "history", pytest.approx(1.0))


METERED = {"energy": {"kind": "measured", "energy_uj": 26.0}}


def test_a_night_without_its_meter_hides_no_slower_operator_and_resets_no_history() -> None:
    """Within 10 % of the prediction, but 8 % from past nights: only the past can tell."""
    slower = (*PREDICTED_CYCLES[:2], round(1.08 * PREDICTED_CYCLES[2]), PREDICTED_CYCLES[3])
    before = [past(1, read(more=METERED)), past(2, read())]
    for more in ({}, METERED):
        found = judge(read(cycles=slower, more=more), LIMITS, before, 3).drifts
        assert {(d.quantity, d.operator[:1], d.against) for d in found} >= {("operator", "2", "history")}
    hungry = {"energy": {"kind": "measured", "energy_uj": 27.5}}  # modelled nights between are passed over
    again = judge(read(more=hungry), LIMITS, [*before, past(3, read(more=hungry), "drift", found)], 4)
    assert ("energy", "history", 26.0) in {(d.quantity, d.against, d.expected) for d in again.drifts}
    (note,) = judge(read(), LIMITS, before[:1], 2).notes
    assert note == "kind of energy changed since the last passing night: measured -> modelled"


def test_a_drift_of_energy_lasts_over_nights_without_a_meter() -> None:
    hungry = {"energy": {"kind": "measured", "energy_uj": 90.0}}
    first = judge(read(more=hungry), LIMITS, [past(1, read(more=METERED))], 2)
    history = [past(1, read(more=METERED)), past(2, read(more=hungry), "drift", first.drifts), past(3, read(), "not reached")]
    assert {d.since for d in judge(read(more=hungry), LIMITS, history, 4).drifts} == {2}


def test_a_lost_cycle_counter_is_no_pass() -> None:
    lost = judge(read(), LIMITS, [past(1, read(kind="measured")), past(2, read(), "not reached")], 3)
    assert lost.kind == "not reached" and "measured until night 1 and are not tonight (modelled)" in lost.reason
    assert judge(read(cycles=SLOWER), LIMITS, [past(1, read(kind="measured"))], 2).kind == "drift"
    assert judge(read(kind="measured"), LIMITS, [past(1, read())], 2).kind == "pass"


def test_what_a_configured_meter_did_not_measure_has_not_passed() -> None:
    clean, slow = judge(read(), LIMITS, [], 1), judge(read(cycles=SLOWER), LIMITS, [], 1)
    assert (unmetered(clean, "gone").kind, unmetered(clean, "gone").reason) == ("not reached", "no measured energy: gone")
    assert unmetered(slow, "gone").kind == "drift" and unmetered(slow, "gone").notes[-1] == "no measured energy: gone"


def test_outputs_that_differ_fail_and_say_where() -> None:
    verdict = judge(read(differing=2, cycles=SLOWER), LIMITS, [], 1)
    assert verdict.kind == "fail" and verdict.drifts
    assert verdict.reason == "2 of 96 windows differ from the int8 reference; the first: window 3, output 1: expected -5, got 7"


def test_refused_is_a_failure_and_not_reached_is_not() -> None:
    assert refused("its weights are others").kind == "fail"
    assert "its weights are others" in refused("its weights are others").reason
    assert (not_reached("no such port").kind, not_reached("no such port").reason) == ("not reached", "no such port")


def test_ram_may_be_less_than_predicted_but_not_other_than_in_past_nights() -> None:
    assert judge(read(ram_bytes=7000), LIMITS, [], 1).kind == "pass"
    (above,) = judge(read(ram_bytes=7285), LIMITS, [], 1).drifts
    assert (above.quantity, above.against, above.change, above.unit) == ("RAM", "predicted", 1.0, "bytes")
    (below,) = judge(read(ram_bytes=7000), LIMITS, [past(1, read())], 2).drifts
    assert (below.quantity, below.against, below.change) == ("RAM", "history", -284)
    assert "RAM: -284 bytes" in str(below)
    assert judge(read(ram_bytes=7000), Limits(ram_bytes=284), [past(1, read())], 2).kind == "pass"


def test_accuracy_is_held_against_the_reference_and_that_of_golden_windows_against_past_nights() -> None:
    (drift,) = judge(read(accuracy=0.85), LIMITS, [], 1).drifts
    assert (drift.quantity, drift.against, drift.change) == ("accuracy", "predicted", pytest.approx(-0.05))
    other = {"golden_hash": "aa", "metric": "af_auc", "expected": 0.9, "golden_expected": 0.8}
    (drift,) = judge(read(more={"night": other}), LIMITS, [past(1, read())], 2).drifts
    assert (drift.quantity, drift.against, drift.change) == ("accuracy of golden windows", "history", pytest.approx(-0.075))
    changed = judge(read(more={"night": other | {"golden_hash": "bb"}}), LIMITS, [past(1, read())], 2)
    assert changed.kind == "pass" and changed.notes == ("golden windows changed since the last passing night: aa -> bb",)


def test_another_tool_chain_is_noted() -> None:
    verdict = judge(read(more={"toolchain": "zig 0.18.0"}), LIMITS, [past(1, read())], 2)
    assert verdict.notes == ("tool chain changed since the last passing night: zig 0.17.0 -> zig 0.18.0",)


def test_the_clock_of_another_machine_is_not_judged() -> None:
    def host(median_us: float) -> Reading:
        operators = [each | {"cycles": None, "us": median_us} for each in record()["operators"]]
        latency = {"kind": "clock of the machine that ran it", "median_us": median_us}
        return read(more={"cycles": None, "latency": latency, "energy": {"kind": "modelled", "energy_uj": None}, "operators": operators})

    verdict = judge(host(2e6), LIMITS, [past(1, host(1e6))], 2)
    assert (verdict.kind, verdict.notes) == ("pass", ("times are of the clock of the machine that ran it and are not judged",))


def test_a_board_tells_arena_and_stack() -> None:
    def board(stack: int | None) -> Reading:
        return read(more={"memory": {"ram_bytes": None, "arena_bytes": 6048, "stack_bytes": stack}})

    (drift,) = judge(board(260), LIMITS, [past(1, board(228))], 2).drifts
    assert (drift.quantity, drift.expected, drift.found, drift.against) == ("arena and stack", 6276, 6308, "history")
    assert judge(board(None), LIMITS, [past(1, board(228))], 2).kind == "pass"
    assert read().used_bytes is None


def test_a_board_at_another_clock_is_held_against_predicted_cycles() -> None:
    faster = read(kind="measured", more={"latency": {"kind": "measured", "median_us": 1.0}})
    assert judge(faster, LIMITS, [], 1).kind == "pass"


def test_figures_that_do_not_exist_are_not_compared() -> None:
    nothing = read(
        more={"predicted": None, "energy": None, "memory": None, "metrics": None, "operators": [], "latency": None, "cycles": None}
    )
    assert judge(nothing, LIMITS, [past(1, read()), past(2, nothing)], 3).kind == "pass"


@given(st.floats(1e-6, 1e12), st.floats(-0.9, 9.0), st.floats(0.01, 500))
def test_beyond_is_the_limit_in_percent(expected: float, share: float, limit: float) -> None:
    if abs(abs(share) * 100 - limit) > 1e-6 * limit:
        assert beyond(expected, expected * (1 + share), limit) == (abs(share) * 100 > limit)
    assert not beyond(expected, expected, limit)
    assert beyond(0, 1, limit) and not beyond(0, 0, limit)


cycles = st.tuples(*(st.integers(1, 1_000_000) for _ in PREDICTED_CYCLES))
nights = st.lists(st.tuples(cycles, st.booleans(), st.sampled_from(["", "flip-weight"])), max_size=12)


def played(history: list[tuple[tuple[int, ...], bool, str]]) -> list[Past]:
    """Nights judged one after the other."""
    done: list[Past] = []
    for number, (figures, differs, fault) in enumerate(history, start=1):
        found = read(cycles=figures, differing=int(differs))
        verdict = judge(found, LIMITS, done, number)
        done.append(past(number, found, verdict.kind, verdict.drifts, fault))
    return done


@given(nights, cycles)
def test_what_holds_of_any_history(history: list[tuple[tuple[int, ...], bool, str]], figures: tuple[int, ...]) -> None:
    before, tonight = played(history), len(history) + 1
    verdict = judge(read(cycles=figures), LIMITS, before, tonight)
    assert (verdict.kind == "pass") == (not verdict.drifts) == (not verdict.reason)
    for drift in verdict.drifts:
        assert abs(drift.change) > drift.limit
        assert 1 <= drift.since <= tonight
        since = [p for p in before if p.night >= drift.since and not p.fault]
        assert all((drift.quantity, drift.operator) in {(d.quantity, d.operator) for d in p.drifts} for p in since)
    # Faults leave no trace in later verdicts.
    assert judge(read(cycles=figures), LIMITS, [p for p in before if not p.fault], tonight) == verdict
    # A wider limit finds no more.
    wider = Limits(
        **{name: 2 * getattr(LIMITS, name) for name in ("latency_percent", "operator_percent", "predicted_percent", "energy_percent")}
    )
    narrow = {(d.quantity, d.operator, d.against) for d in verdict.drifts}
    assert {(d.quantity, d.operator, d.against) for d in judge(read(cycles=figures), wider, before, tonight).drifts} <= narrow


@given(cycles)
def test_a_night_just_like_a_passing_one_passes(figures: tuple[int, ...]) -> None:
    found = read(cycles=figures)
    if judge(found, LIMITS, [], 1).kind == "pass":
        assert judge(found, LIMITS, [past(1, found)], 2).kind == "pass"
