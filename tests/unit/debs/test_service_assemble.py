"""debian/assemble.py: options set in a sample configuration."""

import importlib.util
import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).parents[3] / "debian-templates/service"
SAMPLE = """\
[DEFAULT]

#
# From toy
#

# Where logs go. (string value)
#log_dir = <None>

# Several. (multi valued)
#filter = a
#filter = b
# A word about the option below, which has no effect with
# log_dir = /tmp.
live = 1


[database]

#
# From oslo.db
#

# The connection. (string value)
#connection = <None>
"""


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def assemble():
    return load("assemble")


def preset(section, option, value):
    return {"section": section, "option": option, "value": value}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (
            preset("DEFAULT", "log_dir", "/var/log/toy"),
            "#log_dir = <None>\nlog_dir = /var/log/toy\n\n# Several.",
        ),
        (preset("DEFAULT", "filter", "c"), "#filter = b\nfilter = c\n# A word about"),
        (preset("DEFAULT", "live", "2"), "# log_dir = /tmp.\nlive = 2\n\n\n[database]"),
        (preset("DEFAULT", "new", "3"), "live = 1\nnew = 3\n\n\n[database]"),
        (preset("database", "connection", "x"), "#connection = <None>\nconnection = x\n"),
        (preset("other", "a", "b"), "#connection = <None>\n\n[other]\na = b\n"),
    ],
    ids=["commented", "multi-valued", "live", "unknown-option", "last-section", "new-section"],
)
def test_an_option_goes_where_its_reader_looks_for_it(assemble, one, expected):
    text = assemble.set_presets(SAMPLE, [one])
    assert expected in text
    added = set(text.splitlines()) - set(SAMPLE.splitlines())
    assert f"{one['option']} = {one['value']}" in added
    if one["option"] != "live":  # which is replaced: nothing else is lost
        assert set(SAMPLE.splitlines()) <= set(text.splitlines())


def test_an_option_of_several_values_gets_several_lines(assemble):
    presets = [preset("DEFAULT", "filter", "x"), preset("DEFAULT", "filter", "y")]
    assert "#filter = b\nfilter = x\nfilter = y\n" in assemble.set_presets(SAMPLE, presets)


def test_setting_the_same_twice_changes_nothing_more(assemble):
    presets = [preset("DEFAULT", "log_dir", "/x"), preset("other", "a", "b")]
    once = assemble.set_presets(SAMPLE, presets)
    assert assemble.set_presets(once, presets) == once


def test_a_file_with_sections_of_the_same_option_is_set_in_the_right_one(assemble):
    text = assemble.set_presets("[a]\n#x = 1\n[b]\n#x = 1\n", [preset("b", "x", "2")])
    assert text == "[a]\n#x = 1\n[b]\n#x = 1\nx = 2\n"


GENERATED = """\
[DEFAULT]

#
# From toy
#

# DEPRECATED: Words. (string value)
# Deprecated group/name - [old]/for-mer
# This option is deprecated for removal since 1.0.
# Its value may be silently ignored in the future.
#gone_soon = <None>
gone_soon = x

# Where one example = 2. (multi valued)
#filter = a
#filter = b


[made up]

# (integer value)
size=1
"""


def test_the_options_of_all_samples_are_known_together(assemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debian/samples").mkdir(parents=True)
    former = [["old", "for_mer", "DEFAULT", "gone_soon"], ["database", "log_dir", "DEFAULT", "b"]]
    defaults = [
        ["made up", "size", "1"],
        ["DEFAULT", "gone_soon", None],
        ["DEFAULT", "log_dir", "/build/tree/site/log"],
        ["DEFAULT", "live", "/build/tree/bin"],
    ]
    also = [["database", "connection", None], ["DEFAULT", "live", "other"]]
    for name, rows in (("toy", defaults), ("other", also)):
        about = {"former": former if name == "toy" else [], "defaults": rows}
        (tmp_path / f"debian/samples/etc_{name}.conf.about").write_text(json.dumps(about))
    for name, text in (("a", GENERATED), ("b", SAMPLE)):
        (tmp_path / name).write_text(text)
    target = tmp_path / "usr/share/toy.options.json"
    plan = {"to": str(target), "from": [str(tmp_path / "a"), str(tmp_path / "b")]}
    assemble.put_options(plan, {"/build/tree/site": "{site}", "/build/tree": "{tree}"})
    assert json.loads(target.read_text()) == {
        "options": {
            # filter has a default of the sample's own, live two of them
            "DEFAULT": {"gone_soon": "d", "filter": "mv", "log_dir": "", "live": "v"},
            "made up": {"size": ""},
            "database": {"connection": ""},
        },
        "renamed": {
            "old": {"for_mer": "[DEFAULT] gone_soon"},
            "database": {"log_dir": "[DEFAULT] b"},
        },
        "defaults": {"made up": {"size": "1"}, "DEFAULT": {"log_dir": "{site}/log"}},
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, "true"),
        (60, "60"),
        ("", ""),
        (["a", 1], "a,1"),
        ({"b": 2, "a": 1}, "a:1,b:2"),
        ({"b", "a"}, "a,b"),
    ],
)
def test_a_default_is_as_it_would_be_written(value, expected):
    option = SimpleNamespace(dest="x", default=value, sample_default=None, secret=False)
    assert load("samples").defaults([("s", option)]) == [["s", "x", expected]]


def test_a_default_that_varies_or_is_secret_is_not_told():
    host = socket.gethostname()
    rows = [("1.2.3.4", "$my_ip", False), ("password", None, True), (host, None, False)]
    options = [
        ("s", SimpleNamespace(dest="x", default=value, sample_default=sample, secret=secret))
        for value, sample, secret in rows
    ]
    assert load("samples").defaults(options) == []
