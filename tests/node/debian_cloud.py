"""A cloud of Debian's own packages, set up on one node as an administrator does it by hand.

Settings go into the packages' own files. All services share one password, since nothing
here is about secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import wait_until

if TYPE_CHECKING:
    from harness import Node

PASSWORD = "secret"  # noqa: S105 - of a node that is soon gone
ALONE = ("keystone", "glance", "placement")
# Sets options in the file it names, from an ini text on standard input; a line that is there
# is replaced.
MERGE = r"""#!/usr/bin/python3
import re
import sys

path, section = sys.argv[1], "DEFAULT"
with open(path) as file:
    lines = file.read().split("\n")
for row in sys.stdin.read().split("\n"):
    if header := re.match(r"\[(.+)\]$", row):
        section = header[1]
    elif option := re.match(r"(\S+)\s*=", row):
        if f"[{section}]" not in lines:
            lines += [f"[{section}]"]
        start = lines.index(f"[{section}]") + 1
        heads = (i for i in range(start, len(lines)) if re.match(r"\[.+\]$", lines[i]))
        end = next(heads, len(lines))
        kept = [x for x in lines[start:end] if not re.match(rf"{option[1]}\s*=", x)]
        lines[start:end] = [row, *kept]
with open(path, "w") as file:
    file.write("\n".join(lines))
"""
SHELL = f"""
set -e
P={PASSWORD}
export DEBIAN_FRONTEND=noninteractive
[ ! -e /root/admin-openrc ] || . /root/admin-openrc
database() {{ # NAME USER
    mariadb -e "CREATE DATABASE $1; GRANT ALL ON $1.* TO $2@localhost IDENTIFIED BY '$P'"
}}
authtoken() {{ # USER, SECTION
    cat <<EOF
[${{2:-keystone_authtoken}}]
auth_url = http://controller:5000
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = $1
password = $P
region_name = RegionOne
EOF
    [ -n "$2" ] || echo www_authenticate_uri = http://controller:5000
}}
api() {{ # USER TYPE URL
    openstack user create --domain default --password $P $1
    openstack role add --project service --user $1 admin
    openstack service create --name $1 $2
    for interface in public internal admin; do
        openstack endpoint create --region RegionOne $2 $interface "$3"
    done
}}
answers() {{ # URL
    timeout 600 sh -c "until curl -so /dev/null $1; do sleep 0.5; done"
}}
"""
# As in the install guide: Debian's workers together hold more connections than the default.
KEYSTONE = """
printf '[mysqld]\\nmax_connections = 4096\\n' >/etc/mysql/mariadb.conf.d/99-openstack.cnf
systemctl restart mariadb
database keystone keystone
merge /etc/keystone/keystone.conf <<EOF
[database]
connection = mysql+pymysql://keystone:$P@localhost/keystone
EOF
runuser -u keystone -- keystone-manage db_sync
keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone
keystone-manage credential_setup --keystone-user keystone --keystone-group keystone
url=http://controller:5000/v3/
keystone-manage bootstrap --bootstrap-password $P --bootstrap-region-id RegionOne \
    --bootstrap-admin-url $url --bootstrap-internal-url $url --bootstrap-public-url $url
systemctl restart keystone
cat >/root/admin-openrc <<EOF
export OS_USERNAME=admin OS_PASSWORD=$P OS_PROJECT_NAME=admin OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default OS_AUTH_URL=http://controller:5000/v3
export OS_IDENTITY_API_VERSION=3 OS_COMPUTE_API_VERSION=2.90
EOF
answers $url
. /root/admin-openrc
openstack project create --domain default service
"""
GLANCE = """
database glance glance
api glance image http://controller:9292
{ authtoken glance; cat <<EOF; } | merge /etc/glance/glance-api.conf
[database]
connection = mysql+pymysql://glance:$P@localhost/glance
[paste_deploy]
flavor = keystone
EOF
runuser -u glance -- glance-manage db_sync
systemctl restart glance-api
answers http://controller:9292
"""
PLACEMENT = """
database placement placement
api placement placement http://controller:8778
{ authtoken placement; cat <<EOF; } | merge /etc/placement/placement.conf
[placement_database]
connection = mysql+pymysql://placement:$P@localhost/placement
EOF
runuser -u placement -- placement-manage db sync
systemctl restart placement-api
answers http://controller:8778
"""
BROKER = """
rabbitmqctl add_user openstack $P
rabbitmqctl set_permissions openstack '.*' '.*' '.*'
"""
NOVA = """
for name in nova_api nova nova_cell0; do database $name nova; done
api nova compute http://controller:8774/v2.1
{
    authtoken nova; authtoken nova service_user; authtoken placement placement
    authtoken neutron neutron; cat <<EOF
service_metadata_proxy = true
metadata_proxy_shared_secret = $P
[DEFAULT]
my_ip = 10.0.0.11
transport_url = rabbit://openstack:$P@controller
[api_database]
connection = mysql+pymysql://nova:$P@localhost/nova_api
[database]
connection = mysql+pymysql://nova:$P@localhost/nova
[service_user]
send_service_user_token = true
[cinder]
os_region_name = RegionOne
[spice]
enabled = false
[vnc]
enabled = true
server_listen = 10.0.0.11
server_proxyclient_address = 10.0.0.11
novncproxy_base_url = http://controller:6080/vnc_auto.html
[scheduler]
discover_hosts_in_cells_interval = 20
EOF
} | merge /etc/nova/nova.conf
sed -i 's/^NOVA_CONSOLE_PROXY_TYPE=.*/NOVA_CONSOLE_PROXY_TYPE=novnc/' /etc/default/nova-consoleproxy
runuser -u nova -- nova-manage api_db sync
runuser -u nova -- nova-manage cell_v2 map_cell0
runuser -u nova -- nova-manage cell_v2 create_cell --name=cell1
runuser -u nova -- nova-manage db sync
systemctl restart nova-api nova-api-metadata nova-conductor nova-scheduler nova-novncproxy \
    nova-compute
answers http://controller:8774
"""
# Where the kernel has no openvswitch module it switches in its own process (docs/install.md).
NEUTRON = """
ovs-vsctl --may-exist add-br br-provider
ovs-vsctl --may-exist add-port br-provider eth1
datapath=system
if ! modprobe -q openvswitch; then
    datapath=netdev
    ovs-vsctl set bridge br-provider datapath_type=netdev
    cat >/etc/systemd/network/tap.network <<EOF
[Match]
Name=tap*
Kind=tun
[Link]
ActivationPolicy=always-up
RequiredForOnline=no
[Network]
LinkLocalAddressing=no
EOF
    systemctl enable systemd-networkd
    systemctl disable systemd-networkd-wait-online  # nothing it manages is required: it waits 120 s
    systemctl restart systemd-networkd
fi
database neutron neutron
api neutron network http://controller:9696
{ authtoken neutron; authtoken nova nova; cat <<EOF; } | merge /etc/neutron/neutron.conf
[DEFAULT]
transport_url = rabbit://openstack:$P@controller
service_plugins = router
[database]
connection = mysql+pymysql://neutron:$P@localhost/neutron
EOF
merge /etc/neutron/plugins/ml2/ml2_conf.ini <<EOF
[ml2]
type_drivers = flat,vxlan
tenant_network_types = vxlan
mechanism_drivers = openvswitch
extension_drivers = port_security
[ml2_type_flat]
flat_networks = provider
[ml2_type_vxlan]
vni_ranges = 1:1000
EOF
merge /etc/neutron/plugins/ml2/openvswitch_agent.ini <<EOF
[ovs]
bridge_mappings = provider:br-provider
local_ip = 10.0.0.11
datapath_type = $datapath
[securitygroup]
firewall_driver = openvswitch
EOF
merge /etc/neutron/metadata_agent.ini <<EOF
[DEFAULT]
nova_metadata_host = controller
metadata_proxy_shared_secret = $P
EOF
ml2=/etc/neutron/plugins/ml2/ml2_conf.ini
runuser -u neutron -- neutron-db-manage --config-file /etc/neutron/neutron.conf \
    --config-file $ml2 upgrade heads
systemctl restart neutron-api neutron-rpc-server neutron-dhcp-agent neutron-l3-agent \
    neutron-metadata-agent neutron-openvswitch-agent
answers http://controller:9696
"""
# Volumes are files, as in docs/install.md: no kernel of a test machine has to have iSCSI.
CINDER = """
database cinder cinder
api cinder volumev3 'http://controller:8776/v3/%(project_id)s'
{ authtoken cinder; cat <<EOF; } | merge /etc/cinder/cinder.conf
[DEFAULT]
my_ip = 10.0.0.11
transport_url = rabbit://openstack:$P@controller
enabled_backends = share
[database]
connection = mysql+pymysql://cinder:$P@localhost/cinder
[share]
volume_backend_name = share
volume_driver = cinder.volume.drivers.nfs.NfsDriver
nfs_shares_config = /etc/cinder/shares
EOF
install -d -o cinder -g cinder /srv/share
for service in cinder nova; do
    dir=/var/lib/$service/mnt/$(printf cloud:/share | md5sum | cut -d ' ' -f 1)
    install -d -o $service -g $service "${dir%/*}" "$dir"
    echo "/srv/share $dir none bind 0 0" >>/etc/fstab
    mount "$dir"
done
echo cloud:/share | install -m 0640 -g cinder /dev/stdin /etc/cinder/shares
runuser -u cinder -- cinder-manage db sync
systemctl restart cinder-api cinder-scheduler cinder-volume
answers http://controller:8776
"""
SERVERS = """
openstack network create --share --external \
    --provider-network-type flat --provider-physical-network provider provider
openstack subnet create --network provider --subnet-range 203.0.113.0/24 \
    --gateway 203.0.113.1 --allocation-pool start=203.0.113.101,end=203.0.113.250 \
    --no-dhcp provider
cd /root/guest
openstack flavor create --vcpus 1 --ram 128 --disk 1 m1.nano
openstack image create --public --container-format aki --disk-format aki --file kernel kernel
openstack image create --public --container-format ari --disk-format ari --file ramdisk ramdisk
openstack image create --public --container-format bare --disk-format raw --file server \
    --property kernel_id="$(openstack image show -f value -c id kernel)" \
    --property ramdisk_id="$(openstack image show -f value -c id ramdisk)" server
openstack security group create web
openstack security group rule create --proto icmp web
openstack security group rule create --proto tcp --dst-port 80 web
until [ "$(openstack hypervisor list -f value | wc -l)" = 1 ]; do sleep 3; done
openstack server create --wait --image server --flavor m1.nano --network provider \
    --security-group web --config-drive True one
openstack volume create --size 1 data
until [ "$(openstack volume show -f value -c status data)" = available ]; do sleep 1; done
openstack server add volume one data
"""
NOT_YET = """#!/bin/sh
case $1 in keystone*|glance*|placement*|nova*|neutron*|cinder*) exit 101 ;; esac
"""
BESIDE = "mariadb-server memcached rabbitmq-server"
PACKAGES = (
    "keystone glance-api placement-api nova-api nova-conductor nova-scheduler nova-consoleproxy"
    " nova-compute-qemu neutron-server neutron-openvswitch-agent neutron-dhcp-agent"
    " neutron-l3-agent neutron-metadata-agent cinder-api cinder-scheduler cinder-volume"
    " python3-openstackclient genisoimage"
)


def shell(node: Node, text: str, seconds: int = 900) -> str:
    """Run shell text with the functions and variables of this cloud."""
    return node.out(SHELL + text, seconds=seconds)


def install(node: Node, packages: str) -> None:
    """Install Debian's packages of services, and start none: unconfigured, they only load the CPU.

    What they need (Open vSwitch, libvirt) is started. Setting up starts each service;
    policy-rc.d(8) is gone then.
    """
    node.write("/usr/local/sbin/merge", MERGE)
    node.write("/usr/sbin/policy-rc.d", NOT_YET)
    node.run("chmod 0755 /usr/local/sbin/merge /usr/sbin/policy-rc.d; apt-get update")
    node.run(f"apt-get install -y {packages} </dev/null", seconds=3000)
    node.run("rm /usr/sbin/policy-rc.d")


def identity_and_images(node: Node) -> None:
    """Set keystone, glance and placement up."""
    for text in (KEYSTONE, GLANCE, PLACEMENT):
        shell(node, text)


def compute(node: Node) -> None:
    """Set the rest up: broker, nova, neutron, cinder."""
    for text in (BROKER, NOVA, NEUTRON, CINDER):
        shell(node, text, seconds=1800)
    wait_until("agents and hosts", lambda: "down" not in _states(node), 300, 3)


def _states(node: Node) -> str:
    return shell(
        node,
        "openstack compute service list -f value -c State;"
        "openstack network agent list -f value -c State;"
        "openstack volume service list -f value -c State",
    ).lower()
