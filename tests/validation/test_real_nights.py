"""Nights with the real emulator: a clean one, a slow kernel, and a wrong byte among the weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shipped_students import ship

from hwnas.cli.app import run
from hwnas.validation import windows


@pytest.mark.slow
def test_the_gate_catches_what_it_should(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "GENERATED", 60)
    (tmp_path / "student").mkdir()
    ship(tmp_path / "student", "mobilenet")
    path = tmp_path / "nightly.yaml"
    path.write_text("students: [student]\ntargets: [{name: emulator, target: emulator}]\nwindows: {golden: 8, rotating: 8}\n")
    nights = []
    for code, more in ((0, []), (1, ["--fault", "delay:hwnas_global_avg_pool:500"]), (1, ["--fault", "flip-weight"]), (0, [])):
        assert run(["validate", "--config", str(path), "--json", *more]) == code
        nights.append(json.loads(capsys.readouterr().out))
    rows = [night["rows"][0] for night in nights]
    assert [row["verdict"] for row in rows] == ["pass", "drift", "fail", "pass"]
    slow = [drift for drift in rows[1]["drifts"] if drift["quantity"] == "operator"]
    assert {drift["operator"].split()[1] for drift in slow} == {"hwnas_global_avg_pool"}
    assert all(drift["change"] > 100 and drift["since"] == 2 for drift in slow)
    assert [each["fault"] for each in nights[1]["quarantine"]] == ["delay:hwnas_global_avg_pool:500"]
    assert "differ from the int8 reference; the first: window" in rows[2]["reason"]
    assert not nights[3]["quarantine"]
