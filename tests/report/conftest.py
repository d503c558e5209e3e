"""Runs as the report sees them (tests/made_reports.py), as fixtures."""

from __future__ import annotations

from typing import Any

import pytest
from made_reports import doubtful_front, joint_run, pace_run, sample_front, sample_report, sample_trials

from hwnas.report.content import Report


@pytest.fixture
def doubtful() -> dict[str, Any]:
    return doubtful_front()


@pytest.fixture
def pace() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return pace_run()


@pytest.fixture
def joint() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return joint_run()


@pytest.fixture
def front() -> dict[str, Any]:
    return sample_front()


@pytest.fixture
def trials() -> list[dict[str, Any]]:
    return sample_trials()


@pytest.fixture
def report() -> Report:
    return sample_report()
