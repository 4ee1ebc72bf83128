"""Prove what takes too long for every CI run, one cell at a time, and record what passed.

    prove.py [CELL...]    run these cells, or all (hours)
    prove.py --state      report whether each cell is proven, and for the current inputs

A cell (cells.toml) is a series on a target, and what is proven of it. When its tests pass, its row
in projects/proven.toml gets the date, the version of build-debs and a digest of all that decides
the outcome: the lock, the services and recipes as they are in that series, templates, the code that
makes packages and that runs on nodes, the tests. A row is stale once the digest has changed.
docs/proven.md has that file as a table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping  # noqa: TC003 - read by reading.load
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from builder import __version__
from builder.catalogue import load as catalogues
from builder.files import write_atomically
from builder.model import reading
from builder.model.values import Catalogue, Proof
from builder.pipeline.planning import narrow_service

CHECKOUT = Path(__file__).resolve().parents[2]
CELLS = Path(__file__).with_name("cells.toml")
RECORD = "projects/proven.toml"
PAGE = "docs/proven.md"
INSTALL = "docs/install*.md"
# Code that can change an outcome; the rest of builder/ decides how packages are asked for.
CODE = ("builder/debs", "builder/payload", "builder/wheels", "debian-templates")
TABLE = re.compile(r"(?<=<!-- cells -->\n).*(?=<!-- /cells -->)", re.DOTALL)
HEADING = """\
| series | target | what | passed | build-debs | took | `make prove CELL=` |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Cell:
    """A row of cells.toml."""

    name: str
    series: str
    target: str
    what: str
    tests: tuple[str, ...]
    builds: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cells:
    cell: tuple[Cell, ...]


def load_cells(path: Path = CELLS) -> dict[str, Cell]:
    """Return the cells by name."""
    return {cell.name: cell for cell in reading.load(path, _Cells).cell}


def digest(cell: Cell, catalogue: Catalogue, root: Path = CHECKOUT) -> str:
    """Return a checksum of all that decides the outcome of a cell."""
    found = hashlib.sha256()
    for build in cell.builds:
        series, target = build.split("@")
        for part in _describe(catalogue, series, target):
            found.update(part.encode())
        found.update((root / f"projects/locks/{series}-{target}.json").read_bytes())
    for path in _files(cell, root):
        found.update(f"{path.relative_to(root)}\n".encode())
        found.update(path.read_bytes())
    found.update(repr(sorted(cell.environment.items())).encode())
    return found.hexdigest()[:16]


def _describe(catalogue: Catalogue, series_id: str, suite: str) -> list[str]:
    """Return what the catalogue has for a series on a target, as strings."""
    series = catalogue.series[series_id]
    target = catalogues.find_target(catalogue, series, suite)
    services = [narrow_service(catalogue, name, series, target) for name in series.versions]
    return [
        repr(series.versions),
        repr(target),
        *map(repr, services),
        *map(repr, catalogues.select_recipes(catalogue, series).values()),
        *map(repr, catalogue.roles),
        *map(repr, catalogue.patches.get(series_id, {}).items()),
    ]


def _files(cell: Cell, root: Path) -> list[Path]:
    """Return the files a cell depends on: code, templates, tests, and the documents these read."""
    code = [p for room in CODE for p in sorted((root / room).rglob("*")) if p.is_file()]
    tests = [root / word for word in cell.tests if word.endswith(".py")]
    shared = sorted({p for t in tests for p in t.parent.glob("*.py") if "test_" not in p.name})
    documents = sorted({p for glob in (INSTALL, *cell.documents) for p in root.glob(glob)})
    return [p for p in [*code, *tests, *shared, *documents] if p.suffix != ".pyc"]


def is_stale(proof: Proof, cells: Mapping[str, Cell], catalogue: Catalogue) -> bool:
    """Tell whether what a row proves has changed since."""
    cell = cells.get(proof.cell)
    return cell is None or digest(cell, catalogue) != proof.inputs


def render_page(page: str, proofs: tuple[Proof, ...]) -> str:
    """Return docs/proven.md with its table of cells replaced."""
    rows = (
        f"| {p.series} | {p.target} | {p.what} | {p.date} | {p.version} | {p.took} | {p.cell} |\n"
        for p in proofs
    )
    return TABLE.sub(lambda _: HEADING + "".join(rows), page)


def render_record(proofs: tuple[Proof, ...]) -> str:
    """Return projects/proven.toml."""
    head = "# What `make prove` has shown; it writes this file (tests/prove/prove.py).\n"
    rows = (
        "".join(f'{key} = "{value}"\n' for key, value in dataclasses.asdict(proof).items())
        for proof in proofs
    )
    return head + "".join(f"\n[[proof]]\n{row}" for row in rows)


def write_down(proof: Proof, root: Path = CHECKOUT) -> None:
    """Write a row to the record and its page, replacing an older one of the same cell."""
    kept = [p for p in catalogues.load_proofs(root / "projects") if p.cell != proof.cell]
    proofs = tuple(sorted([*kept, proof], key=lambda p: (p.series, p.target, p.cell)))
    write_atomically(root / RECORD, render_record(proofs).encode())
    page = (root / PAGE).read_text(encoding="utf-8")
    write_atomically(root / PAGE, render_page(page, proofs).encode())


def prove(cell: Cell, catalogue: Catalogue) -> None:
    """Build what a cell needs, run its tests, and write its row; exit if anything fails."""
    inputs, began = digest(cell, catalogue), time.monotonic()
    say(f"prove {cell.name}: {cell.what}, {cell.series} on {cell.target}")
    programs = Path(sys.executable).parent
    commands: list[list[str]] = []
    for build in cell.builds:
        series, target = build.split("@")
        commands.append([f"{programs}/build-debs", series, "--target", target])
    # One failure decides: what would follow takes hours.
    commands.append([f"{programs}/pytest", "-x", *cell.tests])
    for argv in commands:
        say(" ".join(argv))
        done = subprocess.run(
            argv, cwd=CHECKOUT, env={**os.environ, **cell.environment}, check=False
        )
        if done.returncode:
            sys.exit(f"{cell.name} is not proven: status {done.returncode} from {' '.join(argv)}")
    took = f"{(time.monotonic() - began) / 60:.0f} min"
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    what = (cell.series, cell.target, cell.what)
    write_down(Proof(cell.name, *what, date, __version__, took, inputs))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_states(cells: Mapping[str, Cell], catalogue: Catalogue) -> None:
    """Print one line per cell: its name, its state, and what it proves."""
    proofs = {p.cell: p for p in catalogue.proofs}
    for name, cell in cells.items():
        proof = proofs.get(name)
        state = "never proven" if proof is None else f"proven {proof.date}"
        if proof is not None and is_stale(proof, cells, catalogue):
            state += ", stale"
        print(f"{name}\t{state}\t{cell.series} on {cell.target}: {cell.what}")


def main(words: list[str]) -> None:
    cells, catalogue = load_cells(), catalogues.load(CHECKOUT / "projects")
    if words == ["--state"]:
        print_states(cells, catalogue)
        return
    if unknown := [word for word in words if word not in cells]:
        sys.exit(f"no cell {', '.join(unknown)}; cells: {', '.join(cells)}")
    for word in words or cells:
        prove(cells[word], catalogue)


if __name__ == "__main__":
    main(sys.argv[1:])
