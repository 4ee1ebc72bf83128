"""The plan: which revision a package gets, and whether it is built, reused or kept."""

import pytest

from builder.pipeline.actions import Action, Known, decide, summarise


def version(revision):
    return f"1.2.0-1+deb12.{revision}"


def choose(known=(), cached=(), inputs="new"):
    return decide("package", inputs, version, list(known), lambda i, n: (i, n) in cached)


def test_a_package_nobody_has_is_built_as_its_first_revision():
    action = choose()
    assert (action.verb, action.version, action.reason) == ("build", version(1), "new")


def test_what_is_published_from_the_same_inputs_is_kept():
    action = choose([Known(version(1), "new")])
    assert (action.verb, action.revision) == ("keep", 1)


def test_other_inputs_get_the_next_revision_so_that_no_published_file_changes():
    action = choose([Known(version(1), "older"), Known(version(2), "old")])
    assert (action.verb, action.version) == ("build", version(3))
    assert action.reason == "its inputs differ from those of revision 2"


def test_what_was_replaced_is_published_again_above_what_replaced_it():
    action = choose([Known(version(1), "new"), Known(version(2), "other")])
    assert (action.verb, action.revision) == ("build", 3)


def test_pruned_revisions_are_not_given_again():
    pruned = [Known(version(9), "older"), Known(version(10), "old")]
    assert choose(pruned).revision == 11
    assert choose(pruned, inputs="old").verb == "keep"


def test_versions_nobody_of_us_made_do_not_count():
    foreign = [Known(version(1) + "~bpo1", "x"), Known("1.2.0-1", "y")]
    assert choose(foreign).revision == 1


def test_what_was_built_before_is_reused_only_under_the_revision_it_carries():
    assert choose(cached={("new", 1)}).verb == "reuse"
    published = [Known(version(1), "old")]
    assert choose(published, cached={("new", 1)}).verb == "build"
    assert choose(published, cached={("new", 2)}).verb == "reuse"


def test_another_upstream_version_begins_at_revision_one():
    action = choose([Known("1.1.0-1+deb12.4", "new")])
    assert (action.verb, action.revision) == ("build", 1)
    assert action.reason == f"{version(1)} is not in the repository yet"


@pytest.mark.parametrize(
    ("verbs", "text"),
    [
        ([], "nothing to do"),
        (["keep", "keep"], "2 unchanged"),
        (["keep", "build", "reuse", "build"], "2 to build, 1 from the cache, 1 unchanged"),
    ],
)
def test_a_plan_is_told_in_a_line(verbs, text):
    assert summarise([Action("p", "1", 1, "i", verb, "why") for verb in verbs]) == text
