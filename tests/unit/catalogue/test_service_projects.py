"""What the project files of the services say, held against itself in every series built."""

import re
from pathlib import Path

import pytest

from builder.catalogue import load as catalogue

CATALOGUE = catalogue.load(Path(__file__).parents[3] / "projects")
ORDER = catalogue.order_series(CATALOGUE)
OLD = ("ocata", "pike")  # on Python 2.7
EVENTLET = ("2023.1", "2024.1")  # neutron's API is a server of its own
SERIES = (*OLD, *EVENTLET, "2025.1", "2025.2", "2026.1")
CASES = [(name, series) for series in SERIES for name in sorted(CATALOGUE.series[series].versions)]
# Name and script or arguments of what an OpenStack cloud's install guide starts.
AGENTS = {"neutron-dhcp-agent", "neutron-l3-agent", "neutron-openvswitch-agent", "nova-compute"}
OLD_AGENTS = AGENTS | {"neutron-linuxbridge-agent"}

each_service = pytest.mark.parametrize(("name", "series"), CASES)


def narrowed(name, series):
    return CATALOGUE.services[name].narrow_to_series(series, ORDER)


def needed(service, package):
    """The packages of this service that are installed wherever `package` is."""
    found, names = set(), {p.name: p for p in service.packages}
    todo = [package, service.common]
    while todo:
        name = todo.pop()
        if name in names and name not in found:
            found.add(name)
            todo += [relation.split()[0] for relation in names[name].depends]
    return found


def shipped(service):
    """Path of each file -> its package."""
    root = f"/etc/{service.name}/"
    return {
        f.path if f.path.startswith("/") else root + f.path: f.package or service.common
        for f in service.files
    }


def read_by(daemon):
    words = [a for a in daemon.args if not a.startswith("--config-dir=")]
    words += daemon.environment.values()
    return re.findall(r"/etc/[^;=\s]+", " ".join(words))


@each_service
def test_each_daemon_has_the_files_it_reads(name, series):
    service = narrowed(name, series)
    files = shipped(service)
    for daemon in service.daemons:
        for path in read_by(daemon):
            assert files[path] in needed(service, daemon.package), f"{daemon.name}: {path}"


@each_service
def test_each_daemon_reads_its_drop_ins_last(name, series):
    """oslo.config reads its default directories before the files a command line names."""
    for daemon in narrowed(name, series).daemons:
        if any(a.startswith("--config-file=") for a in daemon.args):
            assert daemon.args[-1] == f"--config-dir=/etc/{name}/{name}.conf.d"


@each_service
def test_sudo_runs_linked_scripts_with_shipped_files(name, series):
    """sudo finds its command in /usr/bin, and a missing file there could be anyone's."""
    service = narrowed(name, series)
    linked = next(p for p in service.packages if p.name == service.common).scripts
    for command in service.sudoers:
        script, configuration, *rest = command.split()
        assert script in linked
        assert configuration in shipped(service)
        assert rest in ([], ["*"])
        assert "rootwrap" in script


@each_service
def test_rootwrap_finds_the_scripts_of_the_tree(name, series):
    """privsep-helper is one of them."""
    service = narrowed(name, series)
    for file in (f for f in service.files if f.path == "rootwrap.conf"):
        lines = [*file.text.splitlines(), *(f"{p.option} = {p.value}" for p in file.presets)]
        (directories,) = [x for x in lines if x.startswith("exec_dirs")]
        assert "{tree}/bin" in re.split("[ ,]", directories)


@each_service
def test_no_service_writes_its_root_rules(name, series):
    service = narrowed(name, series)
    for directory in (d for d in service.directories if "rootwrap" in d.path):
        assert directory.owner == "root"
    for file in (f for f in service.files if "rootwrap" in f.path):
        assert file.owner == "root"
        assert not int(file.mode, 8) & 0o022


@each_service
def test_ports_and_ids_are_debians(name, series):
    service = narrowed(name, series)
    ports = {d.name: d.port for d in service.daemons if d.port}
    known = {
        "barbican-api": 9311,
        "cinder-api": 8776,
        "designate-api": 9001,
        "glance-api": 9292,
        "heat-api": 8004,
        "heat-api-cfn": 8000,
        "keystone": 5000,
        "keystone-admin": 35357,
        "neutron-api": 9696,
        "nova-api": 8774,
        "nova-api-metadata": 8775,
        "nova-placement-api": 8778,
        "placement-api": 8778,
    }
    assert ports.items() <= known.items()
    ids = {"cinder": 64061, "glance": 64062, "nova": 64060}
    assert service.user.uid == ids.get(name, 0)


@pytest.mark.parametrize("series", SERIES)
def test_what_agents_started_outlives_them_and_is_seen_by_others(series):
    daemons = [d for name in ("neutron", "nova") for d in narrowed(name, series).daemons]
    agents = {d.name: d for d in daemons if d.name in OLD_AGENTS}
    assert agents.keys() == (OLD_AGENTS if series in {*OLD, *EVENTLET} else AGENTS)
    for agent in agents.values():
        assert agent.kill_mode == "process"
        assert agent.sandbox == "host"


@pytest.mark.parametrize("series", SERIES)
def test_nova_has_the_time_its_graceful_stop_takes(series):
    for daemon in narrowed("nova", series).daemons:
        if daemon.kind == "daemon" and not daemon.name.endswith("proxy"):
            assert daemon.timeout_stop > 180


@pytest.mark.parametrize("series", [s for s in SERIES if s not in {*OLD, *EVENTLET}])
def test_neutron_server_brings_all_of_the_server(series):
    service = narrowed("neutron", series)
    parts = {"neutron-api", "neutron-rpc-server", "neutron-periodic-workers"}
    assert parts <= needed(service, "neutron-server")
    together = {d.name for d in service.daemons if "neutron-server.service" in d.part_of}
    assert parts <= together
    api = next(d for d in service.daemons if d.name == "neutron-api")
    assert api.uwsgi["start-time"] == "%t"


# -- the series before the services' WSGI modules


@pytest.mark.parametrize("series", EVENTLET)
def test_apis_but_neutrons_are_served_by_the_scripts_of_their_release(series):
    daemons = [
        d for name in CATALOGUE.series[series].versions for d in narrowed(name, series).daemons
    ]
    assert {d.name: d.wsgi[0].script for d in daemons if d.kind == "uwsgi"} == {
        "keystone": "keystone-wsgi-public",
        "glance-api": "glance-wsgi-api",
        "placement-api": "placement-api",
        "nova-api": "nova-api-wsgi",
        "nova-api-metadata": "nova-metadata-wsgi",
        "cinder-api": "cinder-wsgi",
    }
    assert "neutron-server" in {d.script for d in daemons if d.kind == "daemon"}


@pytest.mark.parametrize("series", EVENTLET)
def test_nova_speaks_for_itself_where_volumes_are_detached(series):
    """The upgrade check of nova 27.1 and later fails without it."""
    service = narrowed("nova", series)
    (conf,) = [f for f in service.files if f.path == "nova.conf"]
    presets = {(p.option, p.value) for p in conf.presets if p.section == "service_user"}
    assert ("send_service_user_token", "true") in presets
    asking = {s.package for s in service.settings if s.section == "service_user"}
    assert asking == {"nova-api", "nova-compute"}


# -- the series on Python 2.7: what their install guides name


@pytest.mark.parametrize("series", OLD)
@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("keystone", ["keystone"]),
        ("glance", ["glance", "glance-common", "glance-api", "glance-registry"]),
        (
            "nova",
            [
                *("nova-common", "nova-api", "nova-conductor", "nova-scheduler"),
                *("nova-consoleauth", "nova-novncproxy", "nova-compute", "nova-placement-api"),
            ],
        ),
        (
            "neutron",
            [
                *("neutron-common", "neutron-server", "neutron-plugin-ml2", "neutron-l3-agent"),
                *("neutron-linuxbridge-agent", "neutron-openvswitch-agent"),
                *("neutron-dhcp-agent", "neutron-metadata-agent"),
            ],
        ),
        (
            "cinder",
            ["cinder-common", "cinder-api", "cinder-scheduler", "cinder-volume", "cinder-backup"],
        ),
    ],
)
def test_an_old_series_has_the_packages_of_its_guide(series, name, packages):
    service = narrowed(name, series)
    assert sorted(p.name for p in service.packages) == sorted(packages)
    # Each but the common and the meta package has its daemon, of the same name.
    others = {service.common, "glance", "neutron-plugin-ml2"} - {"keystone"}
    assert set(packages) - others <= {d.name for d in service.daemons}


@pytest.mark.parametrize("series", OLD)
def test_an_old_series_apis_are_servers_of_their_own_but_two(series):
    daemons = [
        d for name in CATALOGUE.series[series].versions for d in narrowed(name, series).daemons
    ]
    served = {d.name: d.wsgi[0].script for d in daemons if d.kind == "uwsgi"}
    assert served == {
        "keystone": "keystone-wsgi-public",
        "keystone-admin": "keystone-wsgi-admin",
        "nova-placement-api": "nova-placement-api",
    }
    assert all(d.script == d.name for d in daemons if d.kind == "daemon")
    # What says READY to systemd is waited for; these say nothing.
    silent = {d.name for d in daemons if d.kind == "daemon" and d.unit_type != "notify"}
    assert {"glance-api", "glance-registry", "nova-novncproxy"} <= silent
    assert not silent & {"nova-api", "neutron-server", "cinder-api", "nova-consoleauth"}


@pytest.mark.parametrize("series", OLD)
def test_an_old_series_has_the_rules_its_code_does_not(series):
    held = {
        name
        for name in CATALOGUE.series[series].versions
        if f"/etc/{name}/policy.json" in shipped(narrowed(name, series))
    }
    assert held == {"glance", "neutron", "cinder"} | ({"keystone"} if series == "ocata" else set())


@pytest.mark.parametrize("series", OLD)
def test_an_old_series_presets_have_the_names_of_their_time(series):
    presets = {
        (name, p.section, p.option): p.value
        for name in CATALOGUE.series[series].versions
        for f in narrowed(name, series).files
        for p in f.presets
    }
    assert presets["nova", "vnc", "vncserver_listen"] == "$my_ip"
    assert presets["cinder", "lvm", "iscsi_helper"] == "tgtadm"
    assert presets["neutron", "DEFAULT", "interface_driver"] == "linuxbridge"
    newer = {"server_listen", "target_helper", "www_authenticate_uri", "send_service_user_token"}
    assert not newer & {option for _, _, option in presets}


def test_each_agent_of_an_old_series_filters_in_its_own_way():
    files = {f.path: f for f in narrowed("neutron", "pike").files}
    for agent, driver in (("linuxbridge", "iptables"), ("openvswitch", "openvswitch")):
        presets = files[f"plugins/ml2/{agent}_agent.ini"].presets
        assert [(p.option, p.value) for p in presets] == [("firewall_driver", driver)]
    assert "firewall_driver" not in {p.option for p in files["neutron.conf"].presets}


def preset(service, section, option):
    found = [
        p for f in service.files for p in f.presets if (p.section, p.option) == (section, option)
    ]
    return found[0].value if found else None


@each_service
def test_tokens_of_services_are_taken_from_services_alone(name, series):
    """Since 2023.1 nova sends them; before, no guide gives anybody the role."""
    required = preset(narrowed(name, series), "keystone_authtoken", "service_token_roles_required")
    asks = name != "keystone" and series not in OLD
    assert required == ("true" if asks else None)


@each_service
def test_what_faces_the_network_has_no_privilege_by_default(name, series):
    for daemon in narrowed(name, series).daemons:
        if daemon.port or "api" in daemon.name or "registry" in daemon.name:
            assert daemon.sandbox == "strict", daemon.name


@each_service
def test_nothing_works_on_a_database_before_it_has_an_address(name, series):
    """keystone would make a database of its own, in sqlite."""
    for daemon in narrowed(name, series).daemons:
        if daemon.uses_database:
            assert "connection" in daemon.needed, daemon.name


@pytest.mark.parametrize("series", [s for s in SERIES if s not in OLD])
def test_nova_compute_has_no_address_of_a_database(series):
    (patch,) = CATALOGUE.patches[series]["nova"]
    assert "CONF.set_override('connection', None, group=group)" in patch.text
