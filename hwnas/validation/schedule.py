"""Ready-made files that run a night every night: systemd, cron, GitHub Actions. Reads the templates in `schedules/`; writes nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from hwnas.errors import UsageError, lookup
from hwnas.validation.config import NightConfig
from hwnas.validation.nights import MARKDOWN

TEMPLATES = Path(__file__).resolve().parent / "schedules"
SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "systemd": ("hwnas-validate.service", "hwnas-validate.timer"),
    "cron": ("hwnas-validate.cron",),
    "github": ("hwnas-validate.yml",),
}


def schedule(kind: str, config_path: Path, config: NightConfig) -> str:
    """The files of a kind of schedule, one after the other, with the paths of this interpreter and configuration in them.

    Raises:
        UsageError: an unknown kind, or a path that such a file cannot hold.
    """
    files = lookup(SCHEDULES, kind, "schedule")
    path = config_path.resolve()
    words = [sys.executable, "-m", "hwnas", "validate", "--config", str(path)]
    odd = next((word for word in (*words, config.out) if not word.isprintable() or "'" in word or '"' in word or "\\" in word), None)
    if odd is not None:
        raise UsageError(f"--schedule {kind}: the path {odd!r} holds quotes, backslashes or control characters; move it to a plainer one")
    quote = _systemd if kind == "systemd" else shlex.quote
    fill = {
        "COMMAND": " ".join(map(quote, words)),
        "FOLDER": str(path.parent),
        "CD": shlex.quote(str(path.parent)),
        "OUT": config.out,
        "LOG": shlex.quote(str(path.parent / "validate.log")),
        "SUMMARY": shlex.quote(str(Path(config.out) / MARKDOWN)),
    }
    if kind == "systemd":
        fill |= {name: value.replace("%", "%%") for name, value in fill.items()}
    if kind == "cron":
        fill |= {name: value.replace("%", "\\%") for name, value in fill.items()}
    return "\n".join(_filled((TEMPLATES / name).read_text(encoding="utf-8"), fill) for name in files)


def _filled(text: str, fill: Mapping[str, str]) -> str:
    for name, value in fill.items():
        text = text.replace(f"@{name}@", value)
    return text


def _systemd(word: str) -> str:
    """A word of an ExecStart line: quotes hold blanks, and a dollar sign is no variable."""
    escaped = word.replace("$", "$$")
    return f'"{escaped}"' if " " in escaped else escaped
