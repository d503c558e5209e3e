"""What is said of a space: sizes of random candidates, and how many fit, from a table that is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from made_tables import made_table

from hwnas import families, space
from hwnas.errors import CostError, UsageError
from hwnas.graph import Shape
from hwnas.hardware import profile as profiles
from hwnas.hardware.profile import Profile
from hwnas.hardware.table import LookupTable
from hwnas.pipeline import space_report
from hwnas.pipeline.gate import Gate
from hwnas.pipeline.profiling import reachable
from hwnas.space.joint import JointSpace

SPACE = space.read("lstm")
PROFILE = profiles.read("cortex-m4-192k")
TABLE = made_table(reachable(SPACE, Shape(1, 1000), 6))


@pytest.fixture
def known_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions come from `TABLE`."""
    monkeypatch.setattr(space_report, "read", lambda path: TABLE)
    monkeypatch.setattr(space_report, "check_kernels", lambda table, profile: None)


@pytest.mark.usefixtures("known_table")
def test_shares_are_what_the_gate_says_of_the_same_candidates() -> None:
    report = space_report.describe("lstm", PROFILE.name, "rhythm", 10.0, seed=3, candidates=150)
    rng = np.random.default_rng(3)
    drawn = [{name: values[rng.integers(len(values))] for name, values in SPACE.choices.items()} for _ in range(150)]
    for preset, share in report.fits.items():
        gate = Gate(JointSpace((SPACE,)), Shape(1, 1000), 6, 10.0, PROFILE, TABLE, PROFILE.limits(preset))
        assert share == sum(not gate.judge(parameters).violations for parameters in drawn) / 150
    assert list(report.fits) == ["default", "strict"]
    assert 0.2 <= report.fits["default"] < 1 and 0 < report.fits["strict"] < report.fits["default"]
    graphs = [families.build(SPACE.candidate(parameters), Shape(1, 1000), 6) for parameters in drawn]
    assert report.parameters == (min(sizes := sorted(g.parameters for g in graphs)), int(np.median(sizes)), max(sizes))
    assert report.macs.largest == max(g.macs for g in graphs)


@pytest.mark.usefixtures("known_table")
def test_a_window_that_the_table_does_not_cover_has_no_prediction() -> None:
    report = space_report.describe("lstm", PROFILE.name, "rhythm", 7.0, candidates=20)
    assert report.fits == {} and "windows of 10 s and 30 s" in report.unknown and "a search profiles the rest" in report.unknown
    assert "`hwnas profile`" not in report.unknown  # which fills no other windows
    content = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert content["predicted_share_within_budget"] is None and content["no_prediction"] == report.unknown
    assert content["choices"][0] == {"name": "frame_channels", "values": [4, 8, 16, 32], "when": {}}


def test_candidates_have_the_channels_and_outputs_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    build = families.build
    monkeypatch.setattr(space_report.families, "build", lambda *a: seen.append(a[1:]) or build(*a))  # type: ignore[func-returns-value]
    space_report.describe("modality_conv", PROFILE.name, "heart_rate", None, candidates=3)
    space_report.describe("lstm", PROFILE.name, "sleep", None, candidates=2)
    assert seen == [(Shape(4, 256), 1)] * 3 + [(Shape(1, 1500), 4)] * 2


def test_a_table_of_other_kernels_has_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(table: LookupTable, profile: Profile) -> None:
        raise CostError("refresh it")

    monkeypatch.setattr(space_report, "check_kernels", stale)
    assert space_report.describe("lstm", PROFILE.name, "rhythm", 10.0, candidates=5).unknown == "refresh it"


@pytest.mark.parametrize(
    ("name", "profile", "task", "window_s", "message"),
    [
        ("lsm", "cortex-m4-192k", "rhythm", None, "Did you mean 'lstm'"),
        ("lstm", "cortex-m4", "rhythm", None, "unknown hardware profile"),
        ("lstm", "cortex-m4-192k", "rythm", None, "Did you mean 'rhythm'"),
        ("lstm", "apple-watch-s9", "rhythm", None, "bounds only"),
        ("lstm", "cortex-m4-192k", "rhythm", 0.001, "at least one sample"),
        *(("lstm", "cortex-m4-192k", "rhythm", window_s, "--window-s: got") for window_s in (-3.0, 0.0, math.nan, math.inf, -math.inf)),
    ],
)
def test_what_does_not_exist_is_refused(name: str, profile: str, task: str, window_s: float | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        space_report.describe(name, profile, task, window_s, candidates=1)
