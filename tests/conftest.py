"""What every test shares: thread limits (set before torch is imported), hypothesis profiles, and the real recordings.

Real recordings are never part of the project: they are looked for in `HWNAS_DATA`, else in `shared/data` beside the checkout, and
tests that need them are skipped with a reason where they are absent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before the first import of numpy or torch in the process.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("NNI_FRAMEWORK", "none")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "default", deadline=None, max_examples=50, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", deadline=None, max_examples=2000, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _data_root() -> Path:
    named = os.environ.get("HWNAS_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real recordings; the test is skipped where there is none."""
    place = _data_root()
    if not place.is_dir():
        pytest.skip(f"no recordings at {place}; set HWNAS_DATA to the folder that holds rhythm/, heart_rate/ ...")
    return place


@pytest.fixture(scope="session")
def real_data(data_dir: Path) -> Callable[[str], Path]:
    """`real_data("rhythm/liu2022")` -> that folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        place = data_dir / name
        if not place.exists():
            pytest.skip(f"no recordings at {place}")
        return place

    return find


@pytest.fixture(scope="session")
def liu_dir(real_data: Callable[[str], Path]) -> Path:
    """The Liu 2022 recordings (28 patients, 6 rhythms)."""
    return real_data("rhythm/liu2022")
