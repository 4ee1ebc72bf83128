"""The test guest itself: what it makes of a config drive, and that its image is the same again."""

from __future__ import annotations

import json
import subprocess

import guest

MAC = "fa:16:3e:00:00:01"
ANY = "0.0.0.0"  # noqa: S104 - the default route, as nova writes it
META = {
    "meta": {"name": "not this one"},
    "keys": [{"name": 'a "key"', "data": "ssh-rsa AAAA+/= me\n"}],
    "hostname": "web-1.novalocal",
    "name": 'web "1"',
    "devices": [],
    "launch_index": 0,
}
STATIC = {
    "links": [
        {"id": "tap0", "type": "ovs", "mtu": 1500, "ethernet_mac_address": "fa:16:3e:00:00:02"},
        {"id": "tap1", "type": "ovs", "mtu": 1450, "ethernet_mac_address": MAC},
    ],
    "networks": [
        {"id": "network0", "type": "ipv4_dhcp", "link": "tap0"},
        {
            "id": "network1",
            "type": "ipv4",
            "link": "tap1",
            "ip_address": "203.0.113.5",
            "netmask": "255.255.255.0",
            "routes": [{"network": ANY, "netmask": ANY, "gateway": "203.0.113.1"}],
        },
    ],
    "services": [],
}


def _awk(program: str, text: str, *options: str) -> list[str]:
    done = subprocess.run(
        ["awk", *options, program], input=text, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_the_servers_own_name_is_read_from_its_metadata():
    facts = _awk(guest.JSON_AWK, json.dumps(META, indent=1))
    assert 'name=web "1"' in facts
    assert "hostname=web-1.novalocal" in facts
    assert facts[0] == "meta.name=not this one"


def test_a_link_gets_the_static_address_of_its_own_mac():
    facts = "\n".join(_awk(guest.JSON_AWK, json.dumps(STATIC)))
    assert _awk(guest.STATIC_AWK, facts, "-v", f"mac={MAC}") == [
        "mtu 1450",
        "address 203.0.113.5/255.255.255.0",
        "route 0.0.0.0/0.0.0.0 203.0.113.1",
    ]


def test_a_link_whose_subnet_has_dhcp_gets_nothing_static():
    facts = "\n".join(_awk(guest.JSON_AWK, json.dumps(STATIC)))
    assert _awk(guest.STATIC_AWK, facts, "-v", "mac=fa:16:3e:00:00:02") == []


def test_the_image_is_the_same_when_made_again(tmp_path):
    first, second = guest.build(), guest.build(tmp_path)
    assert first.ramdisk.read_bytes() == second.ramdisk.read_bytes()
    assert first.disk.read_bytes().startswith(guest.DISK_TEXT.encode())
    assert first.kernel.read_bytes()[514:518] == b"HdrS"  # a Linux boot image for x86
