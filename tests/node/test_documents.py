"""The services of docs/services, beside the cloud of docs/install.md: each as its users use it.

The tests share the cloud and run in order.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import document
import pytest
from cloud import ROOT, complaints, daemons_as_root, units
from harness import wait_until

if TYPE_CHECKING:
    from cloud import Cloud

pytestmark = pytest.mark.proof
DOCS = ROOT / "docs/services"


def follow(cloud: Cloud, name: str) -> str:
    """Run a service's document; its daemons are then active, enabled and no root's."""
    said = document.run(document.read(DOCS / f"{name}.md"), cloud.nodes)
    found = {u: s for u, s in units(cloud.controller).items() if u.startswith(name)}
    assert found
    assert {u: s["ActiveState"] for u, s in found.items() if s["ActiveState"] != "active"} == {}
    assert {u for u, s in found.items() if s["UnitFileState"] != "enabled"} == set()
    assert {u for u, s in found.items() if s["User"] in {"", "root"}} == set()
    assert daemons_as_root(cloud.controller) == []
    assert complaints(cloud.controller) == []
    return "".join(said.values())


def test_every_document_has_a_test() -> None:
    names = {path.stem for path in DOCS.glob("*.md")}
    assert {name for name in names if f"test_{name}" not in globals()} == set()


def test_heat(cloud: Cloud) -> None:
    """A stack has a server with a volume that answers at its address, and takes all of it along."""
    follow(cloud, "heat")
    show = "stack output show -f value -c output_value first address"
    cloud.wait_for_page(cloud.openstack(show, "demo").strip(), "server")
    disk = next(v for v in cloud.json("volume list", "demo") if v["Name"].startswith("first-disk"))
    assert disk["Status"] == "in-use"
    # The API of CloudFormation takes signed requests only.
    unsigned = (
        "curl -s -o /dev/null -w '%{http_code}' 'http://controller:8000/v1?Action=ListStacks'"
    )
    assert cloud.controller.out(unsigned) == "400"
    cloud.openstack("stack delete --yes --wait first", "demo")
    assert not [v for v in cloud.json("volume list", "demo") if v["Name"].startswith("first-")]
    assert not [s for s in cloud.json("server list", "demo") if s["Name"].startswith("first-")]


def test_barbican(cloud: Cloud) -> None:
    """A secret comes back, a key is made, and what a volume holds is unreadable on the storage."""
    said = follow(cloud, "barbican")
    assert "hello world" in said
    volume = cloud.json("volume show vault", "demo")
    assert volume["encrypted"] is True
    stored = next(cloud.share.glob(f"volume-{volume['id']}*")).read_bytes()[:1000000]
    assert b"LUKS\xba\xbe" in stored
    keys = cloud.json("secret list", "demo")
    assert {"greeting", "disk"} <= {key["Name"] for key in keys}

    # The listener hears of a project that goes.
    cloud.openstack("project create fleeting")
    cloud.openstack("role add --project fleeting --user admin admin")
    made = cloud.openstack("--os-project-name fleeting secret store --name last --payload x")
    assert "last" in made
    query = "SELECT COUNT(*) FROM barbican.secrets WHERE NOT deleted AND name = 'last'"
    count = f"mariadb -N -e {shlex.quote(query)}"
    assert cloud.controller.out(count).strip() == "1"
    cloud.openstack("project delete fleeting")
    wait_until("the secret's end", lambda: cloud.controller.out(count).strip() == "0", 60)


def test_designate(cloud: Cloud) -> None:
    """Both name servers answer with what a tenant changes, and with nothing once it is gone."""
    follow(cloud, "designate")

    def answers(server: str) -> str:
        return cloud.controller.out(f"dig +short @{server} www.example.org").strip()

    servers = ("10.0.0.11", "10.0.0.31")
    cloud.openstack("recordset set --record 203.0.113.201 example.org. www.example.org.", "demo")
    for server in servers:
        wait_until(server, lambda s=server: answers(s) == "203.0.113.201", 60)
    cloud.openstack("zone delete example.org.", "demo")
    for server in servers:
        wait_until(server, lambda s=server: not answers(s), 60)
