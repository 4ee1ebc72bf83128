"""What a person is told: steps and warnings on stderr, nothing on stdout."""

import re
import sys

import pytest
from terminal import Terminal

from builder import log

LONG = "a_distribution_with_a_name_that_does_not_end-" * 3 + "1.0-py3-none-any.whl"
STEPS = f"""
import sys, time
from builder import log
with log.show_step("2026.1 on bookworm"):
    log.info("a plan")
    with log.step("fetch", 11) as step:
        for number in range(11):
            step.advance(str(number) + {LONG!r}, 2_000_000)
        time.sleep(0.5)
    with log.step("smoke tests of 7 built wheels"):
        sys.stdin.readline()
    if "fail" in sys.argv:
        with log.step("wheels", 2):
            raise SystemExit("error: it failed")
log.warning("look")
"""


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


# -- a terminal


def steps(*words, columns=80, **env):
    return Terminal([sys.executable, "-c", STEPS, *words], columns, **env)


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_is_never_filled_and_nothing_is_left_of_what_was_drawn(columns):
    terminal = steps(columns=columns)
    assert terminal.until(r"smoke tests")
    terminal.type("\n")
    assert terminal.end() == 0
    assert [line for line in terminal.drawn if len(line) > columns] == []
    plan, fetch, smoke, look = terminal.left
    assert (plan, look) == ("a plan", "warning: look")
    assert fetch.startswith("fetch: 11 (")
    assert smoke.startswith("smoke tests of 7 built wheels (")


def test_a_step_says_how_far_it_is_and_how_much_came():
    terminal = steps(columns=100)
    assert terminal.until(r"11/11")
    assert terminal.until(r"22\.0 MB")
    terminal.type("\n")
    assert terminal.end() == 0


def test_a_long_step_gives_signs_of_life():
    """The program goes on when it is told to: only its own redrawing is seen until then."""
    terminal = steps()
    assert terminal.until(r"smoke tests of[^\n]*0:00:0[1-9]")
    terminal.type("\n")
    assert terminal.end() == 0


def test_an_error_begins_a_line_of_its_own():
    terminal = steps("fail")
    terminal.type("\n")
    assert terminal.end() == 1
    assert terminal.left[-1] == "error: it failed"
    assert terminal.said.count("\x1b[?25l") == terminal.said.count("\x1b[?25h")


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_nothing_is_redrawn_where_a_terminal_cannot_or_in_ci(env):
    terminal = steps(**env)
    terminal.type("\n")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    assert len(terminal.left) == 4


def test_no_colour_where_none_is_wanted():
    for env, coloured in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        terminal = steps(**env)
        assert terminal.until(r"smoke tests")
        terminal.type("\n")
        assert terminal.end() == 0
        assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.said)) is coloured
