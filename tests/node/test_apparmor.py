"""libvirt's AppArmor profiles with what nova's layout needs, on a compute node.

The kernel of a test machine may have no AppArmor: the profiles are compiled, not loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repository import HTTP_URI, Repository

if TYPE_CHECKING:
    from harness import Node

PROFILE = "usr.lib.libvirt.virt-aa-helper"
LOCAL = f"/etc/apparmor.d/local/{PROFILE}"
RULES = ("/var/lib/nova/instances/{_base,snapshots}/** r,", "/var/lib/nova/mnt/** r,")
SERVER = "0f3a1f4e-6a5e-4d56-9df0-1f7c5d0a9b11"
INSTANCE = f"/var/lib/nova/instances/{SERVER}"
BASE = "/var/lib/nova/instances/_base"
MOUNT = "/var/lib/nova/mnt/0123456789abcdef0123456789abcdef"
# What nova has there of a server with an image, a config drive and a volume on NFS of which
# there is a snapshot.
DISKS = f"""\
set -e
install -d -o nova -g nova {INSTANCE} {MOUNT} {BASE} /run/openvswitch
cd {INSTANCE}
touch kernel ramdisk disk.config
qemu-img create -q -f raw {BASE}/image 1M
qemu-img create -q -f qcow2 -b {BASE}/image -F raw disk
qemu-img create -q -f raw {MOUNT}/volume-1 1M
qemu-img create -q -f qcow2 -b volume-1 -F raw {MOUNT}/volume-1.snapshot
"""
DOMAIN = f"""\
<domain type='qemu'>
  <name>instance-00000001</name><uuid>{SERVER}</uuid>
  <memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{INSTANCE}/kernel</kernel><initrd>{INSTANCE}/ramdisk</initrd>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{INSTANCE}/disk'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/><source file='{INSTANCE}/disk.config'/>
      <target dev='hda' bus='ide'/><readonly/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{MOUNT}/volume-1.snapshot'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <interface type='vhostuser'>
      <mac address='fa:16:3e:00:00:01'/><model type='virtio'/>
      <source type='unix' path='/var/run/openvswitch/vhu01234567-89' mode='server'/>
    </interface>
  </devices>
</domain>
"""
HELPER = "/usr/lib/libvirt/virt-aa-helper"


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    node = lab.node("apparmor")
    repository.add_to(node, HTTP_URI)
    node.run("apt-get install -y apparmor nova-compute")
    return node


def compiled(node: Node) -> str:
    """Return the profile of the helper with all it includes, after it was found to be right."""
    node.run(f"apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/{PROFILE}")
    return node.out(f"apparmor_parser --preprocess /etc/apparmor.d/{PROFILE}")


def test_the_helper_may_read_what_disks_are_laid_over(node: Node) -> None:
    profile = compiled(node)
    for rule in RULES:
        assert rule in profile


def test_libvirts_own_profile_compiles(node: Node) -> None:
    node.run("apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/usr.sbin.libvirtd")


def test_the_profile_of_a_server_has_its_files_and_compiles(node: Node) -> None:
    node.run(DISKS)
    files = node.run(f"{HELPER} --dryrun -r -u libvirt-{SERVER} 2>&1", stdin=DOMAIN).stdout
    for rule in (
        f'"{INSTANCE}/disk" rwk,',
        f'"{INSTANCE}/disk.config" rk,',
        f'"{INSTANCE}/kernel" r,',
        f'"{INSTANCE}/ramdisk" r,',
        f'"{BASE}/image" rk,',
        f'"{MOUNT}/volume-1.snapshot" rwk,',
        f'"{MOUNT}/volume-1" rk,',
        '"/run/openvswitch/vhu01234567-89" rw,',
    ):
        assert rule in files, rule
    rules = "".join(f"{line}\n" for line in files.splitlines() if line.startswith("  "))
    profile = (
        "#include <tunables/global>\n"
        f"profile libvirt-{SERVER} flags=(attach_disconnected) {{\n"
        f"  #include <abstractions/libvirt-qemu>\n{rules}}}\n"
    )
    node.run("apparmor_parser --skip-kernel-load --skip-cache", stdin=profile)


def test_local_additions_stay_when_the_package_goes(node: Node) -> None:
    before = node.read(LOCAL)
    node.write(LOCAL, f"{before}  /srv/images-of-ours/** r,\n")
    node.run("dpkg-reconfigure nova-compute")
    assert node.read(LOCAL).count("nova-compute") == 1
    node.run("apt-get purge -y nova-compute")
    assert "nova" not in node.read(LOCAL)
    assert "/srv/images-of-ours/** r," in compiled(node)
    assert RULES[1] not in compiled(node)
