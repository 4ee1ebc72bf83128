"""openstack-node on configuration files: what is told, and where."""

import json

import pytest
from nodeside import service, unit, write
from openstack_node import ini, options


def told(toy):
    return [(p.level, p.place.rpartition("/")[2], p.text) for p in options.find_problems(toy)]


def test_files_as_they_should_be_are_passed_over_in_silence(tmp_path):
    toy = service(tmp_path)
    write(
        toy,
        "# words\n[DEFAULT]\ndebug = true\nfilters = a\nfilters = b\n enabled = on\n"
        "enabled_backends = lvm, nfs:x\n[LVM]\nvolume_group=vg\n[nfs]\nvolume_group: x\n"
        "[mdev_nvidia-35]\nvolume_group = y\n"
        "[toy_sys_admin]\nhelper_command = sudo toy\n[backend_defaults]\nbackend_host = x\n"
        "[placement]\nauth_type = password\nusername = u\nproject_domain_name = d\n",
    )
    assert told(toy) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[DEFAULT]\nverbose = 1\n",
            ("warning", "toy.conf:2", "[DEFAULT] verbose is not an option"),
        ),
        ("[old]\na = 1\nb = 2\n", ("warning", "toy.conf:2", "[old] is not a section")),
        ("[DEFAULT]\nold = 1\n", ("note", "toy.conf:2", "[DEFAULT] old is deprecated")),
        (
            "[DEFAULT]\nsql_connection = 1\n",
            ("note", "toy.conf:2", "[DEFAULT] sql_connection is now called [database] connection"),
        ),
        (
            "[DEFAULT]\ndebug = 1\n\ndebug = 1\n",
            ("warning", "toy.conf:4", "[DEFAULT] debug is already set on line 2"),
        ),
        ("[DEFAULT]\ndebug\n", ("critical", "toy.conf:2", "neither [section] nor option = value")),
        ("debug = 1\n", ("critical", "toy.conf:1", "an option before the first [section]")),
        (
            "[DEFAULT] # x\ndebug = 1\n",
            ("critical", "toy.conf:1", "a section name without a closing ]"),
        ),
        (
            "[DEFAULT]\ndebug = 1\n# x\n y\n",
            ("critical", "toy.conf:4", "an indented line continues no option"),
        ),
        (
            "[DEFAULT]\ndebug = a$pw\n",
            ("critical", "toy.conf:2", "the value of [DEFAULT] debug na"),
        ),
        ("[lvm]\nvolume_group = x\n", ("warning", "toy.conf:2", "[lvm] is not a section")),
    ],
    ids=[
        *("option", "section", "deprecated", "renamed", "twice", "no-option", "no-section"),
        *("comment", "indented", "dollar", "back"),
    ],
)
def test_each_mistake_is_told_once_and_where(tmp_path, text, expected):
    toy = service(tmp_path)
    write(toy, text)
    ((level, place, said),) = told(toy)
    assert (level, place) == expected[:2]
    assert said.startswith(expected[2])


def test_drop_in_files_are_looked_at_as_well(tmp_path):
    toy = service(tmp_path)
    write(toy, "[DEFAULT]\n")
    write(toy, "[DEFAULT]\nverbose = 1\n", "site.conf")
    write(toy, "[DEFAULT]\nverbose = 1\n", "site.conf.bak")
    assert [place for _, place, _ in told(toy)] == ["site.conf:2"]


def test_no_value_is_ever_told(tmp_path):
    toy = service(tmp_path)
    write(toy, "[database]\nconection = mysql://u:SECRET@h/d\n[DEFAULT]\nSECRET\n")
    said = " ".join(f"{p.place} {p.text} {p.hint}" for p in options.find_problems(toy))
    assert "SECRET" not in said


def with_defaults(tmp_path, name, defaults, options=None, renamed=None):
    """Return a toy of a series, and what its options are when they are not set."""
    known = {
        "options": options or {"DEFAULT": {"debug": "", "a": "", "b": "v"}, "AGENT": {"c": "m"}},
        "renamed": renamed or {},
        **({"defaults": defaults} if defaults is not None else {}),
    }
    (tmp_path / name).write_text(json.dumps(known))
    return service(tmp_path, options=str(tmp_path / name))


def test_a_default_that_changes_is_told_where_no_file_sets_the_option(tmp_path):
    rows = {"DEFAULT": {"debug": "false", "b": "host1"}, "AGENT": {"c": "x"}}
    old = with_defaults(tmp_path, "old", rows)
    new = with_defaults(tmp_path, "new", {"DEFAULT": {"a": "", "debug": "false", "b": "host2"}})
    write(old, "[DEFAULT]\n")
    changed = [("[DEFAULT] a", None, ""), ("[agent] c", "x", None)]
    assert [(d.option, d.old, d.new) for d in options.compare_defaults(old, new)] == changed
    write(old, "[DEFAULT]\na = SECRET\n")
    write(old, "[agent]\nc = SECRET\n", "site.conf")
    assert options.compare_defaults(old, new) == []


def test_an_option_is_set_by_its_old_name_too(tmp_path):
    old = with_defaults(tmp_path, "old", {"DEFAULT": {"debug": "1"}})
    later = {"log": {"debugging": ""}, "DEFAULT": {"fresh": ""}}
    renamed = {"DEFAULT": {"debug": "[log] debugging", "older": "[DEFAULT] gone"}}
    new = with_defaults(tmp_path, "new", {"DEFAULT": {"fresh": "1"}}, later, renamed)
    write(old, "[DEFAULT]\n")
    assert options.compare_defaults(old, new) == [
        options.Default("[log] debugging", "1", None, "[DEFAULT] debug")
    ]
    for text in ("[DEFAULT]\ndebug = 1\n", "[log]\ndebugging = 1\n"):
        write(old, text)
        assert options.compare_defaults(old, new) == []


def test_nothing_is_said_of_defaults_a_package_does_not_tell(tmp_path):
    old = with_defaults(tmp_path, "old", None)
    new = with_defaults(tmp_path, "new", {"DEFAULT": {"debug": "1"}})
    write(old, "[DEFAULT]\n")
    assert options.compare_defaults(old, new) == []
    assert options.compare_defaults(new, old) == []


def test_what_a_daemon_cannot_do_without_is_missed(tmp_path):
    rule = {"package": "toy-agent", "section": "placement", "options": ["auth_url", "password"]}
    chain = [f"{tmp_path}/etc/toy/toy.conf", f"{tmp_path}/etc/toy/toy.conf.d/"]
    units = [unit("toy-agent", chain), unit("toy-other", chain)]
    toy = service(tmp_path, units=units, settings=[rule])
    write(toy, "[placement]\npassword = x\n")
    assert told(toy) == [("warning", "toy.conf", "[placement] auth_url: not set")]
    assert options.find_problems(toy)[0].hint == "needed by toy-agent.service"
    write(toy, "[placement]\nauth_url = x\n", "site.conf")
    assert told(toy) == []
    write(toy, "[placement]\nauth_type = v3applicationcredential\n")
    write(toy, "", "site.conf")
    assert told(toy) == []


def test_the_last_file_wins_as_it_does_for_the_service(tmp_path):
    toy = service(tmp_path)
    write(toy, "[database]\nconnection = a\nconnection = b\n[Database]\nconnection = c\n")
    settings = ini.Settings(toy.configs)
    assert settings.find_value("database", "connection") == "c"
    later = write(toy, "[database]\nconnection = d\n", "z.conf")
    settings = ini.Settings(toy.configs)
    assert settings.find_value("database", "connection") == "d"
    assert settings.find_place("database", "connection") == f"{later}:2"
    assert settings.find_place("database", "other") == toy.configs[0]


# -- what an option asks of the node

LOGGING = """\
[loggers]
keys = root
[handlers]
keys = out
[formatters]
keys =
"""


def with_options(root, *names):
    """A service that has some options more, and a tree."""
    (root / "site").mkdir(exist_ok=True)
    toy = service(root)
    known = json.loads((root / "options.json").read_text())
    for name in names:
        section, option = name.split("/")
        known["options"].setdefault(section, {})[option] = ""
    (root / "options.json").write_text(json.dumps(known))
    return toy


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("[DEFAULT]\nuse_journal = True\n", "systemd"),
        ("[DEFAULT]\ntransport_url = kafka://h\n", "confluent_kafka"),
        ("[cache]\nenabled = yes\nbackend = dogpile.cache.bmemcached\n", "bmemcached"),
        ("[coordination]\nbackend_url = etcd3+http://h\n", "etcd3gw"),
    ],
)
def test_a_module_the_tree_does_not_have_is_told(tmp_path, text, module):
    options_here = ("DEFAULT/use_journal", "DEFAULT/transport_url", "cache/enabled")
    toy = with_options(tmp_path, *options_here, "cache/backend", "coordination/backend_url")
    write(toy, text)
    ((level, place, said),) = told(toy)
    line = len(text.splitlines())
    assert (level, place) == ("critical", f"toy.conf:{line}")
    assert f"needs the Python module {module}, which 2099.1 lacks here" in said
    (tmp_path / f"site/{module}.cpython-311-x86_64-linux-gnu.so").touch()
    assert told(toy) == []


def test_a_module_is_asked_of_nobody_who_does_not_use_it(tmp_path):
    toy = with_options(tmp_path, "DEFAULT/use_journal", "cache/enabled", "cache/backend")
    write(toy, "[DEFAULT]\nuse_journal = false\n[cache]\nbackend = dogpile.cache.bmemcached\n")
    assert told(toy) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "does not exist"),
        (LOGGING.replace("[handlers]\n", ""), "cannot be read as a logging configuration"),
        ("keys = root\n", "logging.conf:1 cannot be read as a logging configuration"),
        (LOGGING.replace("[formatters]", "[formatter]"), "has no keys in [formatters]"),
        (LOGGING, ""),
    ],
)
def test_a_logging_configuration_is_looked_at(tmp_path, text, expected):
    toy = with_options(tmp_path, "DEFAULT/log_config_append")
    path = tmp_path / "logging.conf"
    write(toy, f"[DEFAULT]\nlog_config_append = {path}\n")
    if text is not None:
        path.write_text(text)
    found = told(toy)
    assert [level for level, _, _ in found] == (["critical"] if expected else [])
    assert expected in "".join(said for _, _, said in found)


def test_a_file_or_directory_of_a_command_line_that_is_gone_is_told(tmp_path):
    toy = service(tmp_path)
    assert [(level, said) for level, _, said in told(toy)] == [("critical", "does not exist")]
    write(toy, "")
    (tmp_path / "etc/toy/toy.conf.d").rmdir()
    (problem,) = options.find_problems(toy)
    assert (problem.level, problem.place) == ("critical", toy.configs[1])
    assert problem.hint.endswith("apt-get install --reinstall toy-common toy-api")
    # oslo.config looks for the service's and the program's by itself, and needs neither.
    chain = [toy.configs[0], f"{tmp_path}/toy.conf.d/", f"{tmp_path}/uwsgi.conf.d/"]
    toy = service(tmp_path, units=[unit("toy-api", chain, kind="uwsgi", needs=["connection"])])
    assert told(toy) == []
