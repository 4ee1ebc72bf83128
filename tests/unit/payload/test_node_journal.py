"""The journal of an upgrade: what the same command finds when it resumes."""

import json

import pytest
from openstack_node.journal import Journal
from twoseries import NEW


@pytest.fixture
def path(tmp_path):
    """Return where an upgrade has noted its first steps."""
    path = tmp_path / "state/upgrade.json"
    journal = Journal(NEW, path)
    journal.remember(["toy-api.service"])
    for key in ("toy/one", "toy/two", "other/one"):
        journal.note(key)
    return path


def test_what_is_done_and_what_ran_is_found_again(path):
    assert Journal(NEW, path).done == ["toy/one", "toy/two", "other/one"]
    assert Journal(NEW, path).running == ["toy-api.service"]


def test_what_was_done_for_another_series_does_not_count(path):
    other = Journal("2026.2", path)
    assert (other.done, other.running) == ([], [])


def test_what_ran_at_the_beginning_counts_when_it_resumes(path):
    Journal(NEW, path).remember([])
    assert Journal(NEW, path).running == ["toy-api.service"]


def test_a_journal_that_was_cut_off_is_the_one_before(path):
    """It is written under another name, then renamed: a file left under that name is ignored."""
    path.with_suffix(".new").write_text("{")
    Journal(NEW, path).note("other/two")
    assert Journal(NEW, path).done[-1] == "other/two"
    assert not path.with_suffix(".new").exists()


def test_a_service_that_went_another_way_is_forgotten(path):
    Journal(NEW, path).forget("toy")
    assert json.loads(path.read_text())["done"] == ["other/one"]


def test_of_a_complete_upgrade_nothing_is_left(path):
    Journal(NEW, path).close()
    assert not path.exists()
    Journal(NEW, path).close()
    assert Journal(NEW, path).done == []
