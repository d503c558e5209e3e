"""Two small students of random weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from shipped_students import ship


@pytest.fixture(scope="session")
def students(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder `students` of a run; its students have no exported files, which nothing here runs."""
    folder = tmp_path_factory.mktemp("run") / "students"
    for family in ("mobilenet", "resnet"):
        (folder / family).mkdir(parents=True)
        ship(folder / family, family, exports=False)
    return folder
