"""Project files of services: the schema, and what a service is in one series."""

from pathlib import Path

import pytest

from builder.errors import DataError
from builder.model.reading import load
from builder.model.service import Service

PROJECTS = Path(__file__).parents[3] / "projects" / "services"
ORDER = ("ocata", "pike", "zed", "2024.2", "2025.1", "2026.1")

SMALL = """
name = "toy"
title = "OpenStack Toy"
distribution = "toy"
deliverable = "toy"
description = "A toy."
homepage = "https://docs.openstack.org/toy/"
common = "toy-common"

[user]
name = "toy"

[[packages]]
name = "toy-common"
summary = "common files"

[[packages]]
name = "toy-api"
summary = "API"
depends = ["always"]
scripts = ["toy-manage"]

[[packages.when]]
description = "The old one."
depends = ["early"]
scripts = ["toy-early"]
until = "zed"

[[packages.when]]
depends = ["late"]
since = "2025.1"

[[packages]]
name = "toy-registry"
summary = "registry"
until = "pike"

[[daemons]]
name = "toy-api"
package = "toy-api"
description = "API"
kind = "uwsgi"
port = 80
wsgi = [
    { module = "toy.wsgi:application", since = "2025.1" },
    { script = "toy-wsgi", until = "2024.2" },
]
after = ["a.service"]
uwsgi = { socket-timeout = "10" }
when = [{ after = ["b.service"], uwsgi = { pyargv = "--x" }, until = "pike" }]

[[files]]
path = "toy.conf"
from = "etc/toy.conf"
when = [{ from = "old/toy.conf", until = "pike" }]
presets = [
    { section = "DEFAULT", option = "old", value = "1", until = "2024.2" },
    { section = "DEFAULT", option = "log_dir", value = "/var/log/toy" },
]
"""


def read(tmp_path, text=SMALL):
    path = tmp_path / "toy.toml"
    path.write_text(text)
    return load(path, Service)


def test_a_service_is_narrowed_to_a_series_with_both_ends_included(tmp_path):
    service = read(tmp_path)
    old, new = service.narrow_to_series("pike", ORDER), service.narrow_to_series("2025.1", ORDER)
    assert [p.name for p in old.packages] == ["toy-common", "toy-api", "toy-registry"]
    assert [p.name for p in new.packages] == ["toy-common", "toy-api"]
    assert old.packages[1].depends == ("always", "early")
    assert new.packages[1].depends == ("always", "late")
    assert old.packages[1].scripts == ("toy-early", "toy-manage")
    assert (old.packages[1].description, new.packages[1].description) == ("The old one.", "")
    assert old.daemons[0].wsgi[0].script == "toy-wsgi"
    assert new.daemons[0].wsgi[0].module == "toy.wsgi:application"
    assert service.narrow_to_series("2024.2", ORDER).daemons[0].wsgi[0].script == "toy-wsgi"
    assert [p.option for p in old.files[0].presets] == ["old", "log_dir"]
    assert [p.option for p in new.files[0].presets] == ["log_dir"]
    assert (old.files[0].from_, new.files[0].from_) == ("old/toy.conf", "etc/toy.conf")
    assert old.daemons[0].after == ("a.service", "b.service")
    assert old.daemons[0].uwsgi == {"socket-timeout": "10", "pyargv": "--x"}
    assert new.daemons[0].uwsgi == {"socket-timeout": "10"}


def test_a_chain_of_configuration_files_is_read_in_its_order_and_drop_ins_last(tmp_path):
    agent = """
[[daemons]]
name = "toy-agent"
package = "toy-api"
description = "agent"
script = "toy-agent"
config = ["toy.conf", "plugins/agent.ini"]
args = ["--once"]
"""
    text = SMALL.replace("port = 80\n", 'port = 80\nconfig = ["toy.conf", "plugin.ini"]\n') + agent
    api, agent = read(tmp_path, text).narrow_to_series("2025.1", ORDER).daemons
    assert api.environment == {"OS_TOY_CONFIG_FILES": "/etc/toy/toy.conf;/etc/toy/plugin.ini"}
    assert agent.args == (
        "--config-file=/etc/toy/toy.conf",
        "--config-file=/etc/toy/plugins/agent.ini",
        "--config-dir=/etc/toy/toy.conf.d",
        "--once",
    )


def test_a_service_that_came_later_is_not_part_of_a_series(tmp_path):
    service = read(tmp_path, SMALL.replace('common = "', 'since = "zed"\ncommon = "'))
    assert service.exists_in("zed", ORDER)
    assert not service.exists_in("pike", ORDER)
    with pytest.raises(DataError, match="toy is not part of pike"):
        service.narrow_to_series("pike", ORDER)


def test_a_daemon_without_a_wsgi_entry_in_the_series_is_an_error(tmp_path):
    service = read(tmp_path, SMALL.replace('until = "2024.2" },\n]', 'until = "zed" },\n]', 1))
    with pytest.raises(DataError, match=r"toy: toy-api has 0 WSGI entries in 2024\.2"):
        service.narrow_to_series("2024.2", ORDER)


def test_two_entries_of_one_name_in_one_series_are_an_error(tmp_path):
    twice = SMALL + '\n[[files]]\npath = "toy.conf"\ntext = "x"\nuntil = "pike"\n'
    service = read(tmp_path, twice)
    assert len(service.narrow_to_series("zed", ORDER).files) == 1
    with pytest.raises(DataError, match=r"two entries for file toy\.conf in pike"):
        service.narrow_to_series("pike", ORDER)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port = 80", "prot = 80", r"unknown key 'daemons\[0\]\.prot'"),
        (
            'package = "toy-api"',
            'package = "toy-apy"',
            "no package 'toy-apy' here; nearest: toy-api",
        ),
        ('common = "toy-common"', 'common = "toy"', "no package 'toy' here"),
        ('from = "etc/toy.conf"', 'from = "a"\ntext = "b"', "give one of config-generator"),
        ('from = "etc/toy.conf"', 'from = "a"\nmode = "640"', "expected a mode such as 0750"),
        ('kind = "uwsgi"\nport = 80', 'kind = "daemon"', "a daemon needs a script"),
        ("port = 80\n", "", "a uwsgi daemon needs a port"),
        *(
            ("port = 80", f"port = 80\n{setting}", "is how the gate of its unit refuses")
            for setting in (
                'settings = ["SuccessExitStatus=1 78"]',
                'settings = ["SuccessExitStatus=CONFIG"]',
                'settings = ["SuccessExitStatus = 255"]',
                'settings = ["SuccessExitStatus=EXCEPTION"]',
                'settings = ["SuccessExitStatus=SIGKILL"]',
            )
        ),
        (
            "when = [{ after",
            'when = [{ settings = ["SuccessExitStatus=078"], after',
            "is how the gate of its unit refuses",
        ),
        (
            "port = 80",
            'port = 80\nsettings = ["ExecCondition=/bin/true"]',
            "use `needs` for conditions of the start",
        ),
        ('kind = "uwsgi"', 'kind = "uwsig"', "'uwsig' is not valid"),
        (
            "[[files]]",
            '[node]\nnegotiated-by = "always"\n[[files]]',
            "negotiated-by: expected start or section/option, got 'always'",
        ),
    ],
)
def test_a_mistake_in_a_project_file_is_named(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, SMALL.replace(old, new, 1))
    assert "toy.toml" in caught.value.message


def test_an_unknown_series_is_named_with_its_nearest(tmp_path):
    service = read(tmp_path, SMALL.replace('until = "pike"', 'until = "pyke"'))
    with pytest.raises(DataError, match="no series 'pyke'") as caught:
        service.narrow_to_series("zed", ORDER)
    assert "pike" in caught.value.hint


@pytest.mark.parametrize("path", sorted(PROJECTS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_project_file_keeps_what_the_service_may_do_narrow(path):
    service = load(path, Service)
    assert service.name == path.stem
    for command in service.sudoers:
        script, *arguments = command.split()
        assert script in {f"{service.name}-rootwrap", f"{service.name}-rootwrap-daemon"}
        assert arguments[0] == f"/etc/{service.name}/rootwrap.conf"
    for daemon in service.daemons:
        if daemon.sandbox == "strict":
            assert daemon.user != "root"


@pytest.mark.parametrize("path", sorted(PROJECTS.glob("*.toml")), ids=lambda p: p.stem)
def test_no_project_file_holds_a_secret(path):
    service = load(path, Service)
    for file in service.files:
        for preset in file.presets:
            assert not any(w in preset.option for w in ("password", "secret", "connection"))
