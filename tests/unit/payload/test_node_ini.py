"""Configuration files as openstack-node reads them, held against oslo.config's own reading."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nodeside import ROOT  # noqa: F401 - it puts the modules on the path
from openstack_node import ini
from oslo_config import cfg

UNSET = "<the release's default>"
OPTIONS = ("a", "b", "long_name")
SECTIONS = ("DEFAULT", "default", "one", "One", "two words")
MARKS = "=: \t\"'[]#;$\\{}.\r\x0b\x85\u2028\xa0\ufeffé"
values = st.text(alphabet=MARKS + string.ascii_letters, max_size=12)
names = st.sampled_from((*OPTIONS, "", "a b", "$a", "A"))
headers = st.builds("[{}]".format, st.sampled_from((*SECTIONS, "", "x]y")))
lines = st.one_of(
    headers,
    st.builds("{}{}{}".format, names, st.sampled_from(("=", ":", " = ", " : ", "\t=\t")), values),
    st.builds("{} = {}".format, names, st.sampled_from(("$b", "${one.a}", "$$b", r"\$b", "x$"))),
    st.builds("{}{}".format, st.sampled_from((" ", "\t", "    ")), values),
    st.builds("{}{}".format, st.sampled_from("#;"), values),
    st.sampled_from(("", " ", "[DEFAULT] # text", "[DEFAULT", "]", "a", '"', 'a = ""')),
    values,
)
ends = st.sampled_from(("\n", "\r\n"))
texts = st.builds(
    lambda head, some, end, last: head + end.join(some) + (end if last else ""),
    st.sampled_from(("", "[DEFAULT]\n", "[one]\n", "\ufeff[DEFAULT]\n")),
    st.lists(lines, max_size=12),
    ends,
    st.booleans(),
)
chains = st.lists(texts, min_size=1, max_size=3)


def by_oslo(paths):
    """What oslo.config has of each option: all it is set to, and its value as its service sees it.

    A text where it refuses the files.
    """
    conf = cfg.ConfigOpts()
    found = {}
    try:
        conf([f"--config-file={p}" for p in paths], project="x", default_config_dirs=[])
    except (cfg.ConfigFileParseError, UnicodeDecodeError) as error:
        return type(error).__name__ + str(error)
    for section in SECTIONS:
        group = None if section == "DEFAULT" else section
        for option in OPTIONS:
            conf.register_opt(cfg.StrOpt(option, default=UNSET), group=group)
    for section in SECTIONS:
        for option in OPTIONS:
            key = [(section, option)]
            try:
                all_of_it = conf._namespace._get_file_value(key, multi=True, normalized=True)[0]
            except KeyError:
                continue
            try:
                value = conf[option] if section == "DEFAULT" else conf[section][option]
            except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
                value = UNSET  # it names an option nobody has
            except RecursionError:
                value = UNSET
            found[ini.normalise(section), option] = (all_of_it, value)
    return found


def by_us(paths):
    """The same as openstack-node has it."""
    entries, mistakes = [], []
    for path in paths:
        some, wrong = ini.read(str(path))
        entries += some
        mistakes += wrong
    if mistakes:
        return mistakes
    chain = ini.Settings([str(p) for p in paths])
    found = {}
    for section in SECTIONS:
        for option in OPTIONS:
            key = ini.normalise(section), option
            all_of_it = [e.value for e in entries if (ini.normalise(e.section), e.option) == key]
            if all_of_it:
                found[key] = (all_of_it, chain.find_value(section, option))
    return found


def write(directory, some):
    paths = [directory / f"{number}.conf" for number in range(len(some))]
    for path, text in zip(paths, some, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chains)
@example(["[DEFAULT] # text\na = 1\n"])
@example(["[DEFAULT]\na = 1\n# comment\n  indented\n"])
@example(["[DEFAULT]\na = 1\n  # indented\n\n"])
@example(["a = 1\n[DEFAULT]\n"])
@example(["[DEFAULT]\na = 1\x85b\n"])
@example(["[DEFAULT]\na = '\n"])
@example(["[one]\na = 1\n[One]\na = 2\n", "[ONE]\nb = 3\n"])
@example(["[one]\na = $b\n[DEFAULT]\nb = x${one.b}\n[one]\nb = $$\n"])
def test_values_and_refusals_are_oslo_configs(tmp_path, chain):
    paths = write(tmp_path, chain)
    theirs, ours = by_oslo(paths), by_us(paths)
    if isinstance(theirs, str):
        assert isinstance(ours, list), theirs
        line = re.search(r"at (?:.*/\d\.conf:|line )(\d+)", theirs)
        # Of an option without a section oslo.config names the line that ends it.
        if line and "Section must be started" not in theirs:
            assert ours[0].line == int(line[1])
        return
    assert isinstance(ours, dict), ours
    assert ours.keys() == theirs.keys()
    for key, (all_of_it, value) in theirs.items():
        assert ours[key][0] == all_of_it
        if UNSET not in value:
            assert ours[key][1] == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[DEFAULT]\n# caf\xe9\n", 2),
        (b"[DEFAULT]\na = \xff\xfe\n", 2),
        ("[DEFAULT]\n".encode("utf-16"), 1),
    ],
)
def test_what_is_not_utf8_is_refused_by_both(tmp_path, text, line):
    paths = write(tmp_path, [text])
    assert "UnicodeDecodeError" in by_oslo(paths)
    assert by_us(paths) == [ini.Mistake(str(paths[0]), line, "not UTF-8")]


def test_the_files_of_a_directory_are_those_oslo_config_reads(tmp_path):
    for name in ("b.conf", "a.conf", ".hidden.conf", "c.conf.bak", "C.conf"):
        (tmp_path / name).write_text(f"[DEFAULT]\na = {name}\n")
    conf = cfg.ConfigOpts()
    conf([f"--config-dir={tmp_path}"], project="x", default_config_files=[])
    conf.register_opt(cfg.MultiStrOpt("a"))
    found = ini.list_files([f"{tmp_path}/"])
    assert [Path(p).name for p in found] == conf.a == ["C.conf", "a.conf", "b.conf"]


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_what_is_no_file_there_is_refused_by_both(tmp_path, kind):
    path = tmp_path / "x.conf"
    path.mkdir() if kind == "directory" else path.symlink_to("nowhere")
    with pytest.raises((IsADirectoryError, cfg.ConfigFilesNotFoundError)):
        cfg.ConfigOpts()([f"--config-dir={tmp_path}"], project="x", default_config_files=[])
    (found,) = ini.list_files([f"{tmp_path}/"])
    assert ini.read(found)[1][0].text.startswith("cannot be read: ")
