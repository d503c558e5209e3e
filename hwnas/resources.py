"""Where the installed data folders are, and the one place that writes files.

`search_spaces/`, `hw_profiles/` and `firmware_bench/` stand at the top of a checkout and inside the package of a wheel; `folder`
finds them in both. `write_bytes` and `write_text` write to a temporary name and rename, so that no file is ever half-written.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hwnas.errors import HwnasError, RunError

PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Path of the data folder `name` ("search_spaces", "hw_profiles", "firmware_bench").

    Raises:
        HwnasError: the installation lacks it.
    """
    for place in (PACKAGE / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise HwnasError(f"the folder '{name}' is missing from this installation of hwnas ({PACKAGE}); install the package again")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: all of it, or nothing and RunError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; free space or choose another --out") from error


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` atomically; see `write_bytes`."""
    write_bytes(path, content.encode())
