"""Every package of the repository as a Debian developer would check it."""

import os
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from suites import newest, stanzas

# lintian takes seconds a package. Libraries of Python alone are made from the same templates, as
# old series' sources are: a sample of them will do, and `make prove CELL=lintian` has all.
WHOLE = bool(os.environ.get("LINTIAN_WHOLE"))
SAMPLE = 20
NEWEST = "bookworm-2026.1"
# Run by the system's own Python, whatever series there are.
OF_THE_NODE = "usr/share/openstack-node/openstack_node/"
EVERYWHERE = {
    "keystone", "glance", "nova-api", "nova-conductor", "nova-scheduler", "nova-novncproxy",
    "nova-compute", "nova-common", "neutron-server", "neutron-plugin-ml2",
    "neutron-openvswitch-agent", "neutron-dhcp-agent", "neutron-l3-agent",
    "neutron-metadata-agent", "neutron-common", "cinder-api", "cinder-scheduler",
    "cinder-volume", "cinder-backup", "cinder-common", "openstackclient", "openstack-compute",
}  # fmt: skip
PYTHON_2 = {"nova-consoleauth", "nova-placement-api", "neutron-linuxbridge-agent"}
TARBALLS = {"keystone", "glance", "glance-api", "glance-registry", "openstack-controller"}
# What the install guides name; of ocata, CI may lack the tarballs of two services.
SERVICES = {
    "bookworm-2026.1": EVERYWHERE | {"glance-api", "placement-api", "openstack-controller"},
    "bullseye-pike": EVERYWHERE | PYTHON_2 | TARBALLS,
    "bullseye-ocata": (EVERYWHERE | PYTHON_2 | TARBALLS)
    - (set() if os.environ.get("BUILD_DEBS_TARBALLS") else TARBALLS),
}


@pytest.fixture(scope="module", params=SERVICES)
def suite(request):
    return request.param


@pytest.fixture(scope="module")
def listed(repository, suite):
    return newest(repository, suite)


def contents(deb):
    out = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True)
    rows = [line.split(None, 5) for line in out.stdout.splitlines()]
    return {row[5].split(" -> ")[0].removeprefix("./"): row[0] for row in rows}


def test_the_install_guides_packages_are_there(listed, suite):
    assert SERVICES[suite] - listed.keys() == set()


def test_no_two_packages_own_a_file(listed, suite):
    tree = f"usr/lib/openstack/{suite.partition('-')[2]}/"
    with ThreadPoolExecutor(2) as pool:
        owners = defaultdict(list)
        for name, files in zip(listed, pool.map(contents, listed.values()), strict=True):
            for path, mode in files.items():
                if not mode.startswith("d"):
                    owners[path].append(name)
    assert {p: n for p, n in owners.items() if len(n) > 1} == {}
    strays = [p for p in owners if "dist-packages" in p or p.startswith("usr/local")]
    assert strays == []
    python = [p for p in owners if p.endswith((".py", ".so", ".pyc"))]
    assert [p for p in python if not p.startswith((tree, OF_THE_NODE))] == []
    assert [p for p in python if p.endswith(".pyc")] == []


def test_lintian_finds_no_error(listed, repository, suite):
    sources = [
        repository / fields["Directory"] / f"{fields['Package']}_{version(fields)}.dsc"
        for fields in stanzas(repository / f"dists/{suite}/main/source/Sources")
    ]
    assert all(path.exists() for path in sources)
    files = [*listed.values(), *sources]
    if not WHOLE:
        alike = [f for f in files if is_pure(f) or (f.suffix == ".dsc" and suite != NEWEST)]
        files = [f for f in files if f not in alike] + alike[::SAMPLE]
    shares = [files[i::2] for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lintian, shares))
    errors = [line for text in outputs for line in text.splitlines() if line.startswith("E:")]
    assert errors == []


def is_pure(package):
    """Tell a library of Python alone from what is made in ways of its own."""
    name = package.name
    return name.startswith("openstack-") and name.endswith("_all.deb") and "-base_" not in name


def version(fields):
    return fields["Version"].rpartition(":")[2]  # an epoch is in no file's name


def lintian(files):
    argv = ["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "none", *files]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout
