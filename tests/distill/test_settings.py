"""Names and numbers of losses: the text that says them, there and back, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.distill import DISTILLATIONS, LOSSES, LossSettings, read, write
from hwnas.errors import ConfigError, UsageError

MAIN = [name for name, loss in LOSSES.items() if loss.learns_outputs]
ADDED = [name for name in LOSSES if name not in MAIN]
SHARES = ("soft_weight", "value_share", "label_share")


def number(field: str) -> st.SearchStrategy[Any]:
    if field.endswith("_tap"):
        return st.sampled_from(["embedding", "stage3", "17"])
    high = 10.0 if field == "temperature" else 0.99 if field == "label_smoothing" else 1.0 if field in SHARES else 1e20
    return st.floats(1e-6, high) if field in ("temperature", "sigma_bpm") else st.floats(0, high)


@st.composite
def settings(draw: st.DrawFn) -> LossSettings:
    names = [*draw(st.lists(st.sampled_from(MAIN), max_size=1)), *draw(st.sets(st.sampled_from(ADDED)))] or ["hard"]
    fields = {field for name in names for field in LOSSES[name].keys.values()}
    chosen = draw(st.sets(st.sampled_from(sorted(fields))))
    return LossSettings("+".join(draw(st.permutations(names))), **{field: draw(number(field)) for field in sorted(chosen)})


@given(settings())
def test_what_is_written_is_read_again(said: LossSettings) -> None:
    assert read(write(said)) == said and hash(read(write(said))) == hash(said)
    assert LossSettings(**json.loads(json.dumps(dataclasses.asdict(said)))) == said


def test_a_text_says_what_it_says() -> None:
    found = read(" soft: soft_weight=0.7 , temperature=3 + relation:weight=12.5 + hint:student_tap=7,teacher_tap=stage2,weight=2")
    wanted = LossSettings(
        "soft+relation+hint",
        soft_weight=0.7,
        temperature=3.0,
        relation_weight=12.5,
        hint_weight=2.0,
        student_tap="7",
        teacher_tap="stage2",
    )
    assert found == wanted
    assert write(found) == "soft:temperature=3.0,soft_weight=0.7+relation:weight=12.5+hint:student_tap=7,teacher_tap=stage2,weight=2.0"
    assert write(read("dkd")) == "dkd" and write(LossSettings()) == "hard" and read("hard") == LossSettings()


def test_a_temperature_that_the_text_does_not_say_is_the_given_one() -> None:
    assert read("soft", temperature=5.5).temperature == 5.5
    assert read("soft:temperature=3", temperature=5.5).temperature == 3.0
    assert read(write(read("dkd+hint", temperature=5.5))).temperature == 5.5


def test_the_losses_that_are_summed_and_what_they_need() -> None:
    assert LossSettings("relation").names == ("hard", "relation") and LossSettings("hint+dkd").names == ("dkd", "hint")
    assert read("hard").teacher_taps == () and not read("hard+relation").needs_teacher and read("pulse").needs_teacher
    assert read("soft+hint:teacher_tap=stage2+relation").teacher_taps == ("embedding", "stage2")
    assert read("hint:teacher_tap=stage2").teacher_taps == ("stage2",)


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_named_combinations(name: str) -> None:
    assert read(name) == read(DISTILLATIONS[name])
    assert name not in LOSSES


def test_the_published_numbers_are_the_defaults() -> None:
    said = LossSettings()
    assert (said.relation_weight, said.relation_weight * said.relation_angle) == (25.0, 50.0)
    assert (said.value_share, said.label_share, said.sigma_bpm) == (2 / 3, 1 / 2, 2.0)
    ecg = read("cross_modal", temperature=7.0)
    assert (ecg.temperature, round(1 - ecg.soft_weight, 9)) == (4.0, 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sotf", r"'sotf': unknown loss 'sotf'.*Did you mean 'soft'"),
        ("", "unknown loss ''"),
        ("soft+", "unknown loss ''"),
        ("soft:wieght=1", "unknown setting of soft 'wieght'.*soft_weight"),
        ("relation:temperature=4", "unknown setting of relation 'temperature'; choose one of: angle, weight"),
        ("soft:temperature", r"'temperature' behind 'soft:' is no setting; write key=value, as in soft:temperature=4.0"),
        ("soft:", "'' behind 'soft:' is no setting"),
        ("soft:temperature=", "is no setting"),
        ("soft:temperature=3,temperature=4", "temperature is set twice"),
        ("soft:temperature=warm", "temperature is 'warm', it must be a number"),
        ("soft:temperature=12", r"'soft:temperature=12': distillation temperature 12: allowed is above 0 and at most 10.*uniform"),
        ("soft:temperature=0", "above 0"),
        ("soft:temperature=nan", "temperature nan"),
        ("soft:soft_weight=1.5", "soft weight 1.5: it is a share, allowed is 0 to 1"),
        ("soft+dkd", "soft and dkd each say how outputs are learnt; keep one"),
        ("hint+hint", "names one loss twice"),
        ("hint:weight=-1", "hint weight -1: it is a weight, allowed is 0 or more"),
        ("relation:weight=inf", "relation weight inf"),
        ("hard:sigma_bpm=0", "sigma 0 BPM"),
        ("hard:label_smoothing=1", "label smoothing 1: allowed is 0 to below 1"),
    ],
)
def test_texts_that_say_nothing_possible(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text)


@given(st.text(alphabet="softdkhin+:=,.0123456789e- \n", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text)
    except ConfigError as error:
        assert text in str(error)
    else:
        assert read(write(found)) == found


def test_settings_refuse_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="Did you mean 'soft'"):
        LossSettings(name="sotf")
    with pytest.raises(ConfigError, match="uniform"):
        LossSettings(name="soft", temperature=10.5)
    with pytest.raises(ConfigError, match="beta nan"):
        LossSettings(beta=math.nan)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_refused_for_a_kind_of_task_that_it_does_not_have(name: str) -> None:
    LossSettings(name).allow("regression")
    if name == "pulse":
        with pytest.raises(ConfigError, match=r"'pulse' needs a task of kind regression, this one is 'classification'"):
            LossSettings("hint+pulse").allow("classification")
    else:
        LossSettings(name).allow("classification")
