"""`make prove`: its cells, what it writes down, and which of that is stale."""

import shutil
import sys
from dataclasses import replace

import pytest
from wheelhouse import REPOSITORY

from builder.catalogue import load as catalogues
from builder.errors import DataError
from builder.model.values import Proof

sys.path.insert(0, str(REPOSITORY / "tests/prove"))

import prove

CATALOGUE = catalogues.load(REPOSITORY / "projects")
CELLS = prove.load_cells()
PROOF = Proof("lintian", "2026.1", "bookworm", "no errors", "2026-11-29", "1.0", "9 min", "abc")
COPIED = ("projects", "debian-templates", "builder", "docs", "tests/acceptance", "tests/node")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, root / name)
    return root


@pytest.fixture
def root(tmp_path):
    """A checkout in which nothing is proven yet."""
    (tmp_path / "projects").mkdir()
    (tmp_path / "docs").mkdir()
    page = "# What\n<!-- cells -->\n<!-- /cells -->\nat the end\n"
    (tmp_path / prove.PAGE).write_text(page)
    return tmp_path


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_cell_names_tests_and_locks_that_are_there(cell):
    assert cell.series in CATALOGUE.series
    assert f"{cell.series}@{cell.target}" in cell.builds
    tests = [word for word in cell.tests if word.endswith(".py")]
    assert tests
    assert all((REPOSITORY / test).is_file() for test in tests)
    for build in cell.builds:
        assert (REPOSITORY / f"projects/locks/{build.replace('@', '-')}.json").is_file()


@pytest.mark.parametrize("name", CELLS)
def test_what_was_proven_still_is(name):
    """What is not, is named in the summary of a run."""
    proof = next((p for p in CATALOGUE.proofs if p.cell == name), None)
    if proof is None:
        pytest.xfail(f"never proven: make prove CELL={name}")
    if prove.is_stale(proof, CELLS, CATALOGUE):
        pytest.xfail(f"stale since {proof.date}: make prove CELL={proof.cell}")


def test_each_row_is_of_a_cell():
    assert {p.cell for p in CATALOGUE.proofs} <= set(CELLS)


def test_the_page_is_made_from_the_record():
    page = (REPOSITORY / prove.PAGE).read_text()
    assert page == prove.render_page(page, CATALOGUE.proofs)
    assert all(f"| {proof.cell} |" in page for proof in CATALOGUE.proofs)


def test_a_row_takes_the_place_of_its_cell_s_older_one(root):
    prove.write_down(replace(PROOF, cell="load"), root)
    prove.write_down(PROOF, root)
    prove.write_down(replace(PROOF, took="8 min"), root)
    found = {p.cell: p for p in catalogues.load_proofs(root / "projects")}
    assert found["lintian"].took == "8 min"
    assert found["load"] == replace(PROOF, cell="load")
    page = (root / prove.PAGE).read_text()
    assert page.count("| lintian |") == 1
    assert page.startswith("# What")
    assert page.endswith("at the end\n")
    assert "| 2026.1 | bookworm | no errors | 2026-11-29 | 1.0 | 8 min | lintian |" in page


@pytest.mark.parametrize(
    ("path", "stale"),
    [
        ("projects/locks/pike-bullseye.json", True),
        ("projects/locks/2026.1-bookworm.json", False),
        ("projects/patches/pike/cinder/series", True),
        ("debian-templates/service/postinst.j2", True),
        ("builder/debs/pack.py", True),
        ("builder/publish/signer.py", False),
        ("tests/node/test_pike.py", True),
        ("tests/node/harness.py", True),
        ("tests/node/test_tls.py", False),
        ("docs/install-pike.md", True),
        ("docs/services/heat.md", False),
    ],
)
def test_a_row_is_stale_when_what_decides_it_changes(checkout, path, stale):
    def digest():
        return prove.digest(CELLS["cloud-pike"], catalogues.load(checkout / "projects"), checkout)

    before = digest()
    file = checkout / path
    if file.name == "series":
        file.write_text("# none\n")
        for patch in file.parent.glob("*.patch"):
            patch.unlink()
    else:
        file.write_text(f"{file.read_text()}\n")
    assert (before != digest()) is stale


def test_a_row_is_stale_when_a_document_its_cell_names_changes(checkout):
    def digest():
        return prove.digest(CELLS["services"], catalogues.load(checkout / "projects"), checkout)

    before, file = digest(), checkout / "docs/services/heat.md"
    file.write_text(f"{file.read_text()}\n")
    assert before != digest()


def test_the_record_names_series_there_are(root):
    shutil.copytree(REPOSITORY / "projects", root / "projects", dirs_exist_ok=True)
    prove.write_down(replace(PROOF, series="2099.9"), root)
    with pytest.raises(DataError, match=r"proven.toml: proof\[.*\].series: '2099.9' is not known"):
        catalogues.load(root / "projects")


def test_a_cell_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(SystemExit, match="no cell nothing; cells: lintian"):
        prove.main(["nothing"])
