"""What `hwnas export` shows. Pure: returns rich tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from hwnas.cli.display import plain_table

# Figures of a comparison that are worth a word; the others are in the JSON.
PHRASES = {
    "windows": "{} windows",
    "windows_differing": "{} of them differ",
    "operator_largest_step": "operators within {} step",
    "lstm_largest_step": "LSTMs within {}",
    "largest_step": "outputs within {}",
    "share_same_class": "same label in {:.1%}",
    "share_other_label": "another label in {:.1%}",
    "mean_difference": "mean difference {:.2f} {unit}",
    "largest_difference": "largest difference {:.2f} {unit}",
    "largest_probability_difference": "probabilities within {:.3f}",
}


def export_tables(result: Mapping[str, Any]) -> list[Table]:
    """What was written, then how each format was verified."""
    written = plain_table("format", "written", "bytes")
    verified = plain_table("format", "verified", "against the int8 reference")
    for name, found in result["exports"].items():
        written.add_row(name, _written(found["files"]), f"{found['bytes']:,}")
        figures = found["comparison"]
        known = [(phrase, figures[key]) for key, phrase in PHRASES.items() if figures.get(key) is not None]
        said = [phrase.format(value, unit=figures.get("unit", "")) for phrase, value in known]
        verified.add_row(name, found["provenance"], ", ".join(said))
    return [written, verified]


def _written(files: list[str]) -> str:
    """Files by name; folders with the number of their files."""
    counts: dict[str, int] = {}
    for file in files:
        top, slash, _ = file.partition("/")
        counts[top + slash] = counts.get(top + slash, 0) + 1
    return ", ".join(f"{name} ({count} files)" if name.endswith("/") else name for name, count in counts.items())
