"""The cache of build roots: what stands for a root or its checksum is never waited for or used.

A stand-in for mmdebstrap makes a root of one file.
"""

import os
import time

import pytest
from harms import HARMS

from builder import roots

MMDEBSTRAP = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
echo made >>"$0.log"
exec tar -C "${0%/*}" -cf "$1" etc
"""


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Return a function that opens a root: what is in it, and how many were made so far."""
    tool = tmp_path / "bin/mmdebstrap"
    (tmp_path / "bin/etc").mkdir(parents=True)
    (tmp_path / "bin/etc/debian_version").write_text("11.0")
    tool.write_text(MMDEBSTRAP)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    sources = [roots.Source("http://deb.example.org/debian", "bullseye")]
    monkeypatch.setattr(roots, "find_sources", lambda *_: sources)
    areas = iter(range(100))

    def open_it():
        area = tmp_path / f"area{next(areas)}"
        area.mkdir()
        cache = tmp_path / "cache/roots"
        made = roots.open_root(
            "bullseye", ["gcc"], machine="bookworm", cache=cache, area=area, days=7
        )
        assert (made.directory / "etc/debian_version").read_text() == "11.0"
        (archive,) = cache.glob("*.tar.zst")
        return archive, len((tool.parent / "mmdebstrap.log").read_text().split())

    return open_it


@pytest.mark.parametrize("end", ["", ".sha256"])
@pytest.mark.parametrize("harm", HARMS)
def test_what_stands_for_a_root_is_made_again(opened, harm, end, capsys):
    archive, count = opened()
    assert count == 1
    harm(archive.with_name(f"{archive.name}{end}"))
    assert opened() == (archive, 2)
    assert f"{archive} in the cache is damaged: rebuilding it" in capsys.readouterr().err
    assert opened() == (archive, 2)
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("harm", HARMS)
def test_what_stands_for_the_lock_of_a_root_gives_way(opened, harm):
    archive, _ = opened()
    harm(archive.with_name(f"{archive.name}.lock"))
    assert opened() == (archive, 1)


def test_what_stands_for_an_old_root_goes_with_it(opened):
    archive, _ = opened()
    old = archive.with_name("bullseye-0123456789ab.tar.zst")
    old.mkdir()
    (old / "inside").touch()
    for path in (old, archive):
        os.utime(path, (0, time.time() - 8 * roots.SECONDS_PER_DAY))
    assert opened() == (archive, 2)


def test_a_file_in_place_of_the_cache_of_roots_gives_way(opened, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/roots").touch()
    assert opened()[1] == 1
