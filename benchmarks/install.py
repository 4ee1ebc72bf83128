"""Measure installing a controller's services, ours compared with Debian's own, in one run.

    benchmarks/install.py [--repo DIR] [--runs N] [--no-recommends] [--no-start] [--detail DIR]

Uses throw-away nodes (tests/node; root) that differ only in the repository, ours and Debian's
in turn: keystone, glance, placement, nova-api, nova-conductor, nova-scheduler and
neutron-server in one `apt-get install -y`, with recommended packages (apt's default) unless
--no-recommends. MariaDB, RabbitMQ and memcached are already installed, and dpkg syncs to the
disk as it does on a user's machine. Prints the medians:

- download: packages and bytes; seconds from a proxy next to the node that has them all
- install: seconds with all archives there, from the command to its end; processor seconds
  of the whole node meanwhile, which other work on this machine disturbs less
- disk: growth of the root file system, without apt's cache; and the sum of Installed-Size
- start: seconds from `systemctl start` of an API, configured and with its database made
  and filled by the packages' own commands, to its first HTTP answer below 500; one API
  after the other, earlier ones still running

With --detail, each run's dpkg.log and terminal output are kept in DIR.
"""

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests/node"))

import images  # noqa: E402
from harness import Lab  # noqa: E402
from repository import HTTP_URI, Repository  # noqa: E402

SERIES = "2026.1"
PACKAGES = (
    *("keystone", "glance", "placement-api", "neutron-server"),
    *("nova-api", "nova-conductor", "nova-scheduler"),
)
SERVERS = ("mariadb-server", "memcached", "rabbitmq-server")
ARCHIVES = "/var/cache/apt/archives"
ANSWER_SECONDS = 600  # Debian takes minutes on a busy machine
PASSWORD = "benchmark"  # noqa: S105 (of nodes nobody else can reach)
BROKER = f"rabbit://openstack:{PASSWORD}@localhost"
# API unit -> address of a page that needs no token
APIS = {
    "keystone": "http://localhost:5000/v3",
    "glance-api": "http://localhost:9292/",
    "placement-api": "http://localhost:8778/",
    "nova-api": "http://localhost:8774/",
    "neutron-api": "http://localhost:9696/",
}
ACCOUNT = {
    "auth_url": "http://localhost:5000",
    "auth_type": "password",
    "project_domain_name": "Default",
    "user_domain_name": "Default",
    "project_name": "service",
    "username": "service",
    "password": PASSWORD,
}
# file -> section -> database, whose address is set; and further options
DATABASES = {
    "/etc/keystone/keystone.conf": {"database": "keystone"},
    "/etc/glance/glance-api.conf": {"database": "glance"},
    "/etc/placement/placement.conf": {"placement_database": "placement"},
    "/etc/nova/nova.conf": {"api_database": "nova_api", "database": "nova"},
    "/etc/neutron/neutron.conf": {"database": "neutron"},
}
# The sections with a service's account for keystone, and for the services it calls.
ACCOUNTS = {
    "glance": ["keystone_authtoken"],
    "placement": ["keystone_authtoken"],
    "nova": ["keystone_authtoken", "service_user", "placement", "neutron"],
    "neutron": ["keystone_authtoken", "nova"],
}
CELL0 = "nova_cell0"
COMMANDS = (
    ("keystone", "keystone-manage db_sync"),
    ("keystone", f"keystone-manage bootstrap --bootstrap-password {PASSWORD}"),
    ("glance", "glance-manage db_sync"),
    ("placement", "placement-manage db sync"),
    ("nova", "nova-manage api_db sync"),
    ("nova", "nova-manage cell_v2 map_cell0"),
    ("nova", "nova-manage cell_v2 create_cell --name=cell1"),
    ("nova", "nova-manage db sync"),
    (
        "neutron",
        "neutron-db-manage --config-file /etc/neutron/neutron.conf"
        " --config-file /etc/neutron/plugins/ml2/ml2_conf.ini upgrade heads",
    ),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    repo = os.environ.get("REPO") or CHECKOUT / "repo"
    parser.add_argument("--repo", type=Path, default=Path(repo))
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--no-recommends", action="store_true", help="install only what is needed")
    parser.add_argument("--no-start", action="store_true", help="measure only the installation")
    parser.add_argument("--detail", type=Path, metavar="DIR")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("nodes need root")
    repository = Repository(options.repo.resolve(), "bookworm", SERIES)
    if not repository.release.exists():
        raise SystemExit(f"{repository.release} does not exist: build it first (make repo)")
    # A terminated run also removes its nodes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = {"ours": [], "Debian": []}
    dumps = {}
    lab = Lab(repository.path, "bench")
    # The tests' nodes may be in memory, where a sync costs nothing.
    lab.dir = images.cache_dir() / "nodes/bench"
    with lab:
        for number in range(1, options.runs + 1):
            for side, runs in found.items():
                node = booted(lab, f"{side.lower()}{number}", repository, ours=side == "ours")
                figures = installation(node, recommends=not options.no_recommends)
                keep(node, options.detail)
                if not options.no_start:
                    figures |= starts(node, side, dumps)
                runs.append(figures)
                said(f"{side} {number}", figures)
                node.destroy()
    table(found)


def booted(lab, name, repository, *, ours):
    """Return a node with the servers, and with our repository if `ours`."""
    node = lab.node(name)
    node.run(f"apt-get update && apt-get install -y {shlex.join(SERVERS)}")
    # The test images have shortcuts that a user's machine does not.
    node.run("rm -f /etc/dpkg/dpkg.cfg.d/99mmdebstrap")
    node.run("sed -i /Install-Recommends/d /etc/apt/apt.conf.d/99mmdebstrap")
    if ours:
        repository.add_to(node, HTTP_URI)
    node.run("apt-get update")
    return node


def installation(node, *, recommends):
    """Return the figures of one installation, with its archives fetched beforehand."""
    install = f"apt-get install -y {'' if recommends else '--no-install-recommends'}"
    names = " ".join(PACKAGES)
    fetch = f"{install} --download-only {names}"
    node.run(f"{fetch}; apt-get clean")  # so that the proxy next to the node has it all
    download = timed(lambda: node.run(fetch))
    listed = node.out(f"stat -c %s {ARCHIVES}/*.deb").split()
    before = used(node)
    declared = installed_size(node)
    node.run("truncate -s 0 /var/log/dpkg.log; sync")
    spent = processor(node)
    wall = timed(lambda: node.run(f"{install} {names} >/root/install.log 2>&1"))
    spent = processor(node) - spent
    return {
        "packages": len(listed),
        "download, MB": sum(map(int, listed)) / 1e6,
        "download, s": download,
        "install, s": wall,
        "install, processor s": spent,
        "disk used, MB": used(node) - before,
        "Installed-Size, MB": installed_size(node) - declared,
    }


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def used(node):
    """Return the megabytes on disk written on the node since it was created."""
    node.run("sync")
    argv = ["du", "-sk", "--exclude=./var/cache/apt", "."]
    listed = subprocess.run(
        argv, cwd=node.dir / "upper", check=True, capture_output=True, text=True
    )
    return int(listed.stdout.split()[0]) * 1024 / 1e6


def installed_size(node):
    sizes = node.out("dpkg-query -W -f '${Installed-Size}\\n'").split()
    return sum(map(int, sizes)) * 1024 / 1e6


def processor(node):
    """Return the processor seconds all of the node's processes have taken so far."""
    lines = (node._group.path / "cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


def keep(node, area):
    if area is None:
        return
    (area / node.name).mkdir(parents=True, exist_ok=True)
    for path in ("/var/log/dpkg.log", "/root/install.log"):
        (area / node.name / Path(path).name).write_text(node.read(path))


def starts(node, side, dumps):
    """Return the seconds from the start of each API to its first answer."""
    node.run(f"systemctl stop {' '.join(APIS)} nova-conductor nova-scheduler neutron-rpc-server")
    configure(node)
    fill(node, side, dumps)
    spent = processor(node)
    figures = {f"{unit}, s": answered(node, unit, url) for unit, url in APIS.items()}
    total = sum(figures.values())
    return figures | {"all five, s": total, "all five, processor s": processor(node) - spent}


def configure(node):
    node.run(
        f"rabbitmqctl -q add_user openstack {PASSWORD}"
        " && rabbitmqctl -q set_permissions openstack '.*' '.*' '.*'"
    )
    for path, databases in DATABASES.items():
        text = node.read(path)
        for section, name in databases.items():
            address = f"mysql+pymysql://openstack:{PASSWORD}@localhost/{name}"
            text = with_options(text, section, {"connection": address})
        service = Path(path).parent.name
        for section in ACCOUNTS.get(service, []):
            text = with_options(text, section, ACCOUNT)
        if service in {"nova", "neutron"}:
            text = with_options(text, "DEFAULT", {"transport_url": BROKER})
        if service == "neutron":
            text = with_options(text, "DEFAULT", {"core_plugin": "ml2"})
        node.write(path, text)


def with_options(text, section, values):
    """Return an ini file's text with `values` set in `section`, replacing what it has there."""
    lines, inside, heading = [], False, f"[{section}]"
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip() == heading
        if not inside or line.partition("=")[0].strip() not in values:
            lines.append(line)
    if heading not in lines:
        lines.append(heading)
    here = lines.index(heading) + 1
    lines[here:here] = [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def fill(node, side, dumps):
    """Make the databases: with the packages' commands, and in later runs from their result."""
    names = [name for databases in DATABASES.values() for name in databases.values()] + [CELL0]
    statements = [f"CREATE DATABASE {name}" for name in names]
    account = f"openstack@localhost IDENTIFIED BY '{PASSWORD}'"
    statements.append(f"GRANT ALL PRIVILEGES ON *.* TO {account}")
    node.run("mariadb", stdin="".join(f"{statement};\n" for statement in statements))
    # Keys belong to the node.
    for kind in ("fernet", "credential"):
        who = "--keystone-user keystone --keystone-group keystone"
        node.run(f"keystone-manage {kind}_setup {who}")
    if side in dumps:
        node.run("mariadb", stdin=dumps[side])
        return
    for user, command in COMMANDS:
        node.run(f"runuser -u {user} -- {command}")
    dumps[side] = node.out(f"mariadb-dump --databases {' '.join(names)}")


def answered(node, unit, url):
    """Return the seconds from the start of `unit` to the first answer at `url`."""
    ask = f"curl -so /dev/null -w '%{{http_code}}' {url}"
    script = f"""
        begin=$(date +%s%N)
        systemctl start --no-block {unit}
        until code=$({ask}) && [ "$code" -lt 500 ]; do sleep 0.02; done
        echo $(( $(date +%s%N) - begin ))
    """
    return int(node.out(script, seconds=ANSWER_SECONDS)) / 1e9


def said(what, figures):
    load = os.getloadavg()[0]
    row = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
    print(f"{what} (load of this machine {load:.1f}): {row}", file=sys.stderr, flush=True)


def table(found):
    rows = {name: [] for name in found["ours"][0]}
    for runs in found.values():
        for name, row in rows.items():
            row.append(statistics.median(run[name] for run in runs))
    print(f"{'median of ' + str(len(found['ours'])):26}{'ours':>10}{'Debian':>10}{'ratio':>8}")
    for name, (ours, debian) in rows.items():
        print(f"{name:26}{ours:10.1f}{debian:10.1f}{ours / debian:8.2f}")


if __name__ == "__main__":
    main()
