"""What machine code needs is asked once for the same bits on the same machine."""

import shutil
from pathlib import Path

import pytest

from builder.debs import elf

PROGRAM = Path("/bin/true")


@pytest.fixture
def asked(monkeypatch):
    """Count how often dpkg-shlibdeps is asked."""
    calls = []
    real = elf.run
    monkeypatch.setattr(elf, "run", lambda *a, **o: calls.append(a) or real(*a, **o))
    return calls


def recall(area, content=b""):
    """Return what a copy of a program needs, as a run with a work area of its own asks it."""
    root = area / "root"
    (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROGRAM, root / "program")
    with (root / "program").open("ab") as file:
        file.write(content)
    return elf.find_libraries([root / "program"], root, area, None, area.parent / "known")


def test_the_same_bits_are_asked_about_once(tmp_path, asked):
    first = recall(tmp_path / "one")
    assert any(relation.startswith("libc6 ") for relation in first)
    assert recall(tmp_path / "two") == first
    assert len(asked) == 1
    recall(tmp_path / "three", content=b"x")
    assert len(asked) == 2


def test_other_packages_on_the_machine_are_another_question(tmp_path, asked, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Package: libc6\n")
    monkeypatch.setattr(elf, "STATUS", status)
    recall(tmp_path / "one")
    status.write_text("Package: libc6\nVersion: 2\n")
    recall(tmp_path / "two")
    assert len(asked) == 2


@pytest.mark.parametrize("damage", ["libc6 (>= 1.0)\n", ""])
def test_a_damaged_answer_is_asked_for_again(tmp_path, asked, damage):
    first = recall(tmp_path / "one")
    (answer,) = (tmp_path / "known").rglob(elf.ANSWER)
    answer.write_text(damage)
    elf.caches._sound.clear()
    assert recall(tmp_path / "two") == first
    assert len(asked) == 2
