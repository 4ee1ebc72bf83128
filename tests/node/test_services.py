"""The packages of all services but keystone: installed, unconfigured, and gone again.

One node, in order: Debian's part of the dependencies is installed first, so that what
the file system holds before and after is the work of our packages alone.
"""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
from cloud import ROOT, SERVICES
from harness import Node, wait_until
from repository import HTTP_URI, Repository, set_option

# keystone has its own file.
FILES = {
    name: tomllib.loads((ROOT / f"projects/services/{name}.toml").read_text())
    for name in SERVICES
    if name != "keystone"
}
# service user -> fixed id, the same on every node that shares storage (Debian's own)
USERS = dict.fromkeys(FILES, 0) | {"glance": 64062, "nova": 64060, "cinder": 64061}
ROOTWRAP = sorted(name for name, file in FILES.items() if "sudoers" in file)
AGENTS = (
    "neutron-dhcp-agent.service",
    "neutron-l3-agent.service",
    "neutron-metadata-agent.service",
    "neutron-openvswitch-agent.service",
)
BROKER = "rabbit://openstack:RABBIT_PASS@localhost"
WATCHED_SECONDS = 60
SETTLED_SECONDS = 20
MOST_RESTARTS = 6  # in WATCHED_SECONDS: no unit starts again within 10 s
MOST_JOURNAL = 2_000_000  # bytes, all units, installation and WATCHED_SECONDS
MOST_LOG = 8_000_000  # bytes below /var/log/<service>, likewise
# They become root, and make mounts and namespaces the node sees (docs/units.md).
UNCONFINED = {
    *("cinder-backup.service", "cinder-volume.service", "nova-compute.service"),
    "designate-worker.service",
    *("neutron-dhcp-agent.service", "neutron-l3-agent.service"),
    *("neutron-openvswitch-agent.service", "neutron-server.service"),
}
MOST_EXPOSURE = 40  # tenths, of 100
STORE = "/usr/share/glance-api/cinder-store.conf"
DROP_INS = "/etc/systemd/system/glance-api.service.d"
# As the store does from within the service.
BECOME_ROOT = """\
[Service]
Type=oneshot
ExecCondition=
ExecStart=
ExecStart=sudo -n glance-rootwrap /etc/glance/rootwrap.conf id
RemainAfterExit=no
Restart=no
RestartForceExitStatus=
"""
# What a purge may leave and why; any other path is a defect.
KEPT = (
    rf"/var/lib/({'|'.join(FILES)})(/.*)?",  # data are the operator's
    r"/var/log/(journal|apt|dpkg|alternatives).*",
    r"/var/lib/(dpkg|apt|ucf|systemd)/.*",  # what packages were, in the tools' own books
    r"/var/cache/(apt|debconf|ldconfig|man|fontconfig)(/.*)?",
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?",  # accounts stay (Policy 9.2.2)
    r"/etc/(ld.so.cache|mtab)",
    r"/(root|tmp|var/tmp|home)(/.*)?",
    # Debian's daemons at work, installed before and still there
    r"/var/lib/(memcached|mysql|rabbitmq|libvirt|openvswitch|lxcfs|tgt|polkit-1|swtpm.*)(/.*)?",
    r"/var/log/(libvirt|openvswitch|rabbitmq|mysql|private)(/.*)?",
    r"/var/cache/(libvirt|swtpm.*)(/.*)?",
    r"/etc/(openvswitch|libvirt|iscsi|lvm)/.*",
    r"/var/lib/libuuid/clock[.]txt",
)


@pytest.fixture(scope="module")
def packages(repository: Repository) -> list[str]:
    """Every package of the services that the repository has."""
    named = {p["name"]: p for file in FILES.values() for p in file["packages"]}
    missing = {n for n, p in named.items() if "until" not in p} - set(repository.stanzas)
    assert not missing, f"not in the repository: {sorted(missing)}"
    return sorted(named.keys() & set(repository.stanzas))


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    node = lab.node("services")
    repository.add_to(node, HTTP_URI)
    return node


@pytest.fixture(scope="module")
def before(node: Node, packages: list[str], repository: Repository) -> dict[str, str]:
    """The file system with all of Debian's packages and none of ours."""
    plan = node.out(f"apt-get install -y --simulate {shlex.join(packages)}")
    names = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    debians = [name for name in names if name not in repository.stanzas]
    node.run(f"apt-get install -y {shlex.join(debians)}")
    return files(node)


@pytest.fixture(scope="module")
def installed(node: Node, before: dict[str, str], packages: list[str]) -> str:
    assert before
    return node.run(f"apt-get install -y {shlex.join(packages)}").stdout


@pytest.fixture(scope="module")
def units(installed: str, node: Node, repository: Repository) -> list[str]:
    """The service units our packages brought; templates aside."""
    assert installed
    ours = shlex.join(repository.installed(node))
    pattern = r"'^(/usr)?/lib/systemd/system/[^/@]*[.]service$'"
    paths = node.out(f"dpkg -L {ours} | grep -E {pattern} | sort -u").splitlines()
    return [path.rpartition("/")[2] for path in paths]


def files(node: Node) -> dict[str, str]:
    """Return path -> type, mode, owner, and for /etc the content's checksum."""
    listing = node.out("find / -xdev -printf '%p\\t%y %m %u:%g\\n'")
    found = dict(line.split("\t") for line in listing.splitlines() if "\t" in line)
    sums = node.out("find /etc -xdev -type f -exec sha256sum {} +")
    for line in sums.splitlines():
        digest, _, path = line.partition("  ")
        found[path] = f"{found.get(path, '')} {digest}"
    return found


def states(node: Node, units: list[str]) -> dict[str, dict[str, str]]:
    """Return the properties of each unit."""
    names = "ActiveState,SubState,Result,NRestarts,UnitFileState,ConditionResult,Type"
    return node.units(shlex.join(units), names)


def test_all_install_without_a_terminal(
    installed: str, node: Node, packages: list[str], repository: Repository
) -> None:
    assert "Setting up nova-compute" in installed
    assert set(packages) <= set(repository.installed(node))
    assert not node.out("dpkg --audit")


def test_each_package_is_ours(
    installed: str, node: Node, packages: list[str], repository: Repository
) -> None:
    assert installed
    said = node.out(f"dpkg-query -W -f '${{Package}} ${{Version}}\\n' {shlex.join(packages)}")
    versions = dict(line.split() for line in said.splitlines())
    assert versions == {name: repository.stanzas[name]["Version"] for name in packages}


def test_units_are_enabled(node: Node, units: list[str]) -> None:
    daemons = {d["name"] for f in FILES.values() for d in f["daemons"] if "until" not in d}
    assert {f"{name}.service" for name in daemons} - set(units) == set()
    off = {
        u for u, s in states(node, units).items() if s["UnitFileState"] not in {"enabled", "static"}
    }
    assert not off


def test_units_run_or_wait_without_a_crash_loop(node: Node, units: list[str]) -> None:
    before = states(node, units)
    node.run(f"sleep {WATCHED_SECONDS}")
    after = states(node, units)
    failed = [u for u, s in after.items() if s["ActiveState"] == "failed"]
    assert not failed, node.out(f"journalctl -n 40 --no-pager -u {failed[0]}")
    restarts = {u: int(s["NRestarts"]) - int(before[u]["NRestarts"]) for u, s in after.items()}
    assert not {u: n for u, n in restarts.items() if n > MOST_RESTARTS}
    idle = [u for u, s in after.items()
            if s["ActiveState"] == "inactive" and s["ConditionResult"] == "yes"
            and s["Type"] != "oneshot"]  # fmt: skip
    assert not idle


# A database of nova as an early release of its code left it.
MAKE_OLD_DATABASE = """\
import sqlite3
database = sqlite3.connect("/var/lib/nova/old.sqlite")
database.execute("CREATE TABLE alembic_version (version_num TEXT)")
database.execute("INSERT INTO alembic_version VALUES ('8f2f1571d55b')")
database.commit()
"""


def start_conductor(node: Node) -> str:
    """Start nova-conductor where it may not start; return why, as its journal has it.

    Its unit counts an exit status of 1 as success, and has `Restart=always`.
    """
    node.run("systemctl start nova-conductor; sleep 1")
    state = states(node, ["nova-conductor.service"])["nova-conductor.service"]
    assert (state["ActiveState"], state["Result"]) == ("inactive", "exec-condition")
    assert state["NRestarts"] == "0"
    return node.out("journalctl -b -n 10 -o cat --no-pager -u nova-conductor")


def test_a_unit_nobody_configured_says_what_it_waits_for(node: Node, units: list[str]) -> None:
    assert "nova-conductor.service" in units
    lack = r"not started: not configured yet: \[\w+\] connection in /etc/nova/nova.conf is not set"
    assert re.search(lack, start_conductor(node))


def test_new_code_is_held_back_while_its_database_is_behind(node: Node, units: list[str]) -> None:
    node.run(f"runuser -u nova -- python3 -c {shlex.quote(MAKE_OLD_DATABASE)}")
    conf = "/etc/nova/nova.conf"
    set_option(node, conf, "database", "connection", "sqlite:////var/lib/nova/old.sqlite")
    behind = "not started: the database /var/lib/nova/old.sqlite at this host is behind the code"
    assert behind in start_conductor(node)
    node.run(f"rm /var/lib/nova/old.sqlite; sed -i '/^connection = /d' {conf}")
    assert "not configured yet" in start_conductor(node), units


def test_agents_wait_for_a_broker_that_is_away(node: Node, units: list[str]) -> None:
    """Nobody answers at the address in their configuration; not even stopping takes long."""
    assert set(AGENTS) <= set(units)
    set_option(node, "/etc/neutron/neutron.conf", "DEFAULT", "transport_url", BROKER)
    # The host's kernel may lack the openvswitch module: its user-space switch does as well.
    ini = "/etc/neutron/plugins/ml2/openvswitch_agent.ini"
    set_option(node, ini, "ovs", "datapath_type", "netdev")
    node.run(f"systemctl start --no-block {shlex.join(AGENTS)}; sleep {SETTLED_SECONDS}")
    for unit, state in states(node, list(AGENTS)).items():
        assert state["ActiveState"] in {"active", "activating"}, unit
        assert int(state["NRestarts"]) <= 1, unit
    node.run(f"systemctl stop {shlex.join(AGENTS)}", seconds=45)
    # As it was before, for the tests that follow.
    node.run("systemctl reset-failed; sed -i '/^transport_url = /d' /etc/neutron/neutron.conf")


def test_waiting_does_not_fill_the_disk(node: Node, units: list[str]) -> None:
    shown = node.out("journalctl -o short -b --no-pager | wc -c")
    assert int(shown) < MOST_JOURNAL
    for user in USERS:
        size = node.out(f"du -sb /var/log/{user} | cut -f 1")
        assert int(size) < MOST_LOG, f"/var/log/{user}: {size} bytes from {len(units)} units"


def test_accounts(node: Node, units: list[str]) -> None:
    assert units
    for user, uid in USERS.items():
        entry = node.out(f"getent passwd {user}").split(":")
        group = node.out(f"getent group {user}").split(":")
        assert entry[3] == group[2]
        assert not uid or (entry[2], entry[3]) == (str(uid), str(uid))
        assert node.out(f"passwd --status {user}").split()[1] == "L"
    assert "libvirt" in node.out("id -nG nova").split()


def test_services_cannot_write_their_configuration(node: Node, units: list[str]) -> None:
    assert units
    for user in USERS:
        assert not node.out(f"runuser -u {user} -- find /etc/{user} -writable ! -type l")
        assert not node.out(f"find /etc/{user} -name '*.conf' ! -name rootwrap.conf -perm /007")
        assert node.out(f"stat -c '%a %U:%G' /etc/{user}/{main_file(user)}") == f"640 root:{user}"


def main_file(service: str) -> str:
    return "glance-api.conf" if service == "glance" else f"{service}.conf"


def test_state_is_private(node: Node, units: list[str]) -> None:
    assert units
    for user in USERS:
        for directory in (f"/var/lib/{user}", f"/var/log/{user}"):
            mode, owner = node.out(f"stat -c '%a %U' {directory}").split()
            assert owner == user
            assert int(mode, 8) & 0o022 == 0


def test_sudo_lets_rootwrap_through_and_nothing_else(node: Node, units: list[str]) -> None:
    assert units
    node.run("visudo -c")
    for user in ROOTWRAP:
        rootwrap = f"sudo -n {user}-rootwrap /etc/{user}/rootwrap.conf"
        as_user = f"runuser -u {user} --"
        assert not node.succeeds(f"{as_user} sudo -n true")
        assert not node.succeeds(f"{as_user} sudo -n privsep-helper --help")
        refused = node.run(f"{as_user} {rootwrap} id", check=False)
        assert refused.returncode != 0
        assert "Unauthorized command" in refused.stdout + refused.stderr
        # Another configuration could name other filters.
        other = rootwrap.replace(f"/etc/{user}", f"/var/lib/{user}")
        assert "password is required" in node.run(f"{as_user} {other} id", check=False).stderr
    neutron = "runuser -u neutron -- sudo -n neutron-rootwrap /etc/neutron/rootwrap.conf"
    node.run(f"{neutron} ip netns list")
    cinder = "runuser -u cinder -- sudo -n cinder-rootwrap /etc/cinder/rootwrap.conf"
    node.run(f"{cinder} env LC_ALL=C lvs --version")


def test_units_are_confined_but_for_those_that_cannot_be(node: Node, units: list[str]) -> None:
    exposed = {
        unit
        for unit in units
        if not node.succeeds(f"systemd-analyze security --threshold={MOST_EXPOSURE} {unit}")
    }
    assert exposed <= UNCONFINED


def test_glance_becomes_root_for_a_store_in_cinder_alone(node: Node, units: list[str]) -> None:
    assert "glance-api.service" in units
    node.run(f"mkdir {DROP_INS}")
    node.write(f"{DROP_INS}/zz-test.conf", BECOME_ROOT)

    def start_and_hear(words: str) -> None:
        node.run("systemctl daemon-reload; systemctl start glance-api", check=False)
        journal = "journalctl -b -q --no-pager -o cat -t glance-api"
        wait_until(f"{words!r} in the journal", lambda: words in node.out(journal), 120)

    try:
        start_and_hear("no new privileges")
        node.run(f"install -m 0644 {STORE} {DROP_INS}/cinder-store.conf")
        start_and_hear("Unauthorized command: id")  # rootwrap says so, as root
        node.run(f"rm {DROP_INS}/zz-test.conf; systemctl daemon-reload")
        assert not node.out("systemd-analyze verify glance-api.service 2>&1")
    finally:
        node.run(f"rm -r {DROP_INS}; systemctl daemon-reload; systemctl reset-failed")


def test_privsep_helper_starts_for_nova(node: Node, units: list[str]) -> None:
    """Through the real configuration: as root it looks for the socket its parent would hold."""
    assert units
    helper = (
        "sudo -n nova-rootwrap /etc/nova/rootwrap.conf privsep-helper"
        " --config-file /etc/nova/nova.conf --privsep_context nova.privsep.sys_admin_pctxt"
        " --privsep_sock_path /tmp/none/socket"
    )
    said = node.run(f"runuser -u nova -- {helper}", check=False)
    assert "Unauthorized" not in said.stdout + said.stderr
    assert "FileNotFoundError" in node.out("tail -n 5 /var/log/nova/privsep-helper.log")


def test_configuration_is_what_the_release_says(
    node: Node, packages: list[str], units: list[str]
) -> None:
    """No package leaves the file system different from what it says it installed."""
    assert units
    assert not node.out(f"dpkg --verify {shlex.join(packages)}")


def test_commands_are_on_the_path(node: Node, units: list[str]) -> None:
    assert units
    for command in ("glance-manage", "placement-manage", "nova-manage", "cinder-manage"):
        assert "db" in node.out(f"{command} --help")
    assert "upgrade" in node.out("neutron-db-manage --help")


def test_reboot_in_order(node: Node, units: list[str]) -> None:
    node.reboot(settled=False)
    node.run(f"sleep {SETTLED_SECONDS}")
    failed = [u for u, s in states(node, units).items() if s["ActiveState"] == "failed"]
    assert not failed
    waiting = [u for u, s in states(node, units).items()
               if s["UnitFileState"] == "enabled" and s["ActiveState"] == "inactive"
               and s["ConditionResult"] == "yes" and s["Type"] != "oneshot"]  # fmt: skip
    assert not waiting


def test_purge_leaves_the_machine_as_it_was(
    node: Node, before: dict[str, str], units: list[str], repository: Repository
) -> None:
    ours = [name for name in repository.installed(node) if name != repository.archive]
    node.run(f"apt-get purge -y {shlex.join(ours)}")
    after = files(node)
    allowed = re.compile("|".join(KEPT))
    left = sorted(p for p in after.keys() - before.keys() if not allowed.fullmatch(p))
    gone = sorted(p for p in before.keys() - after.keys() if not allowed.fullmatch(p))
    changed = sorted(p for p in after.keys() & before.keys()
                     if after[p] != before[p] and not allowed.fullmatch(p))  # fmt: skip
    assert (left, gone, changed) == ([], [], [])
    known = states(node, units)
    assert {u: s["ActiveState"] for u, s in known.items() if s["ActiveState"] != "inactive"} == {}
    for user in USERS:
        assert not node.succeeds(f"pgrep -u {user}"), f"processes of {user} are left"


def test_install_after_purge(node: Node, packages: list[str], units: list[str]) -> None:
    node.run(f"apt-get install -y {shlex.join(packages)}")
    failed = [u for u, s in states(node, units).items() if s["ActiveState"] == "failed"]
    assert not failed
