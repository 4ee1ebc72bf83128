"""The table of upgrades that were proven: rows are written where UPGRADES_TABLE says.

The cells of upgrades (tests/prove/cells.toml) name docs/proven.md; a row of the same pair and
way is replaced.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

TABLE = re.compile(r"(<!-- pairs -->\n(?:\|.*\n){2})((?:\|.*\n)*)(<!-- /pairs -->)")


def record(old: str, new: str, way: str, notes: dict[str, str]) -> str:
    """Note that an upgrade passed; return its row."""
    told = ", ".join(f"{what} {how}" for what, how in notes.items())
    row = f"| {old} | {new} | {way} | {told} |\n"
    path = os.environ.get("UPGRADES_TABLE")
    if path:
        text = Path(path).read_text()
        Path(path).write_text(with_row(text, row))
    print(row, end="")
    return row


def with_row(text: str, row: str) -> str:
    """Return a document with a row in its table, in the place of one of the same three cells."""
    match = TABLE.search(text)
    if not match:
        raise ValueError("the document has no table between <!-- pairs --> and <!-- /pairs -->")
    key = row.split("|")[1:4]
    rows = [r for r in match[2].splitlines(keepends=True) if r.split("|")[1:4] != key]
    return text[: match.start(2)] + "".join(sorted([*rows, row])) + text[match.end(2) :]
