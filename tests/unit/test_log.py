"""What a person is told: steps and warnings on stderr, nothing on stdout."""

import pytest

from builder import log


@pytest.fixture(autouse=True)
def level():
    yield
    log.set_level(1)


def said(capsys, level):
    log.set_level(level)
    log.info("a step")
    log.detail("a package")
    log.warning("look")
    with log.step("build", 2) as step:
        step.advance("one")
        step.advance("two")
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_quiet_says_warnings_alone(capsys):
    assert said(capsys, 0) == ["warning: look"]


def test_normal_says_a_line_per_step(capsys):
    lines = said(capsys, 1)
    assert lines[:2] == ["a step", "warning: look"]
    assert lines[2].startswith("build: 2 (")
    assert len(lines) == 3


def test_verbose_says_each_package(capsys):
    lines = said(capsys, 2)
    assert [x.strip() for x in lines[:5]] == ["a step", "a package", "warning: look", "one", "two"]


def test_a_step_without_items_says_nothing(capsys):
    with log.step("fetch", 0):
        pass
    assert capsys.readouterr().err == ""


def test_a_step_that_failed_does_not_say_that_it_is_done(capsys):
    def failing():
        with log.step("build", 3) as step:
            step.advance("one")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        failing()
    assert capsys.readouterr().err == ""


def test_no_line_is_redrawn_where_there_is_no_terminal(capsys):
    assert not any("\r" in line or "\033" in line for line in said(capsys, 1))
