# A cloud on one node, named controller, by Debian's own puppet modules (test_puppet.py).
#
# Classes and parameters are those of the modules: nothing in here knows whose packages they
# install. One password does for all, since nothing here is about secrets.

$password = 'secret'
$address  = '10.0.0.11'
$url      = 'http://controller'
$keystone = "${url}:5000"
$broker   = "rabbit://openstack:${password}@127.0.0.1:5672/"

# What the services need, from Debian.

class { 'mysql::server': }

class { 'rabbitmq':
  admin_enable          => false,
  delete_guest_user     => true,
  environment_variables => { 'LC_ALL' => 'C.UTF-8' },
  manage_python         => false,
  repos_ensure          => false,
}
rabbitmq_user { 'openstack':
  password => $password,
  provider => 'rabbitmqctl',
  require  => Class['rabbitmq'],
}
-> rabbitmq_user_permissions { 'openstack@/':
  configure_permission => '.*',
  read_permission      => '.*',
  write_permission     => '.*',
  provider             => 'rabbitmqctl',
  before               => Anchor['nova::service::begin', 'neutron::service::begin'],
}

package { 'memcached':
  ensure => present,
}
-> service { 'memcached':
  ensure => running,
  enable => true,
  before => Anchor['keystone::service::begin'],
}

# Users, endpoints and databases: each service has one of the kind.

class { [
    'glance::db::mysql',
    'keystone::db::mysql',
    'neutron::db::mysql',
    'nova::db::mysql',
    'nova::db::mysql_api',
    'placement::db::mysql',
  ]:
    # As this MariaDB calls what the modules call utf8: else they would change it each time.
    charset  => 'utf8mb3',
    collate  => 'utf8mb3_general_ci',
    password => $password,
}

class { [
    'glance::api::authtoken',
    'neutron::keystone::authtoken',
    'nova::keystone::authtoken',
    'placement::keystone::authtoken',
  ]:
    auth_url             => $keystone,
    memcached_servers    => ['127.0.0.1:11211'],
    password             => $password,
    www_authenticate_uri => $keystone,
}

$endpoints = {
  'glance'    => "${url}:9292",
  'neutron'   => "${url}:9696",
  'nova'      => "${url}:8774/v2.1",
  'placement' => "${url}:8778",
}
$endpoints.each |$service, $endpoint| {
  class { "${service}::keystone::auth":
    admin_url    => $endpoint,
    internal_url => $endpoint,
    password     => $password,
    public_url   => $endpoint,
    roles        => ['admin', 'service'],
  }
}

# keystone

class { 'keystone::db':
  database_connection => "mysql+pymysql://keystone:${password}@127.0.0.1/keystone?charset=utf8",
}
class { 'keystone::cache':
  backend          => 'dogpile.cache.memcached',
  enabled          => true,
  memcache_servers => ['127.0.0.1:11211'],
}
class { 'keystone':
  public_endpoint => $keystone,
}
class { 'keystone::bootstrap':
  admin_url  => $keystone,
  password   => $password,
  public_url => $keystone,
}

# glance

class { 'glance::api::db':
  database_connection => "mysql+pymysql://glance:${password}@127.0.0.1/glance?charset=utf8",
}
glance::backend::multistore::file { 'file1': }
class { 'glance::api':
  default_backend  => 'file1',
  enabled_backends => ['file1:file'],
}

# placement

include placement
include placement::api
include placement::client
class { 'placement::db':
  database_connection => "mysql+pymysql://placement:${password}@127.0.0.1/placement?charset=utf8",
}

# nova

class { 'nova::db':
  api_database_connection => "mysql+pymysql://nova_api:${password}@127.0.0.1/nova_api?charset=utf8",
  database_connection     => "mysql+pymysql://nova:${password}@127.0.0.1/nova?charset=utf8",
}
class { 'nova':
  default_transport_url => $broker,
  my_ip                 => $address,
}
class { 'nova::keystone::service_user':
  auth_url                => $keystone,
  password                => $password,
  send_service_user_token => true,
}
class { 'nova::placement':
  auth_url => $keystone,
  password => $password,
}
class { 'nova::network::neutron':
  auth_url => $keystone,
  password => $password,
}
class { 'nova::metadata':
  neutron_metadata_proxy_shared_secret => $password,
}
include nova::api
include nova::cell_v2::simple_setup
include nova::client
include nova::conductor
include nova::scheduler::filter
class { 'nova::scheduler':
  discover_hosts_in_cells_interval => 20,
}
class { 'nova::vncproxy':
  host => $address,
}
class { 'nova::compute':
  vncproxy_host                 => $address,
  vncserver_proxyclient_address => $address,
}
# The machines of tests need not have KVM.
class { 'nova::compute::libvirt':
  cpu_mode         => 'none',
  virt_type        => 'qemu',
  vncserver_listen => $address,
}

# neutron

class { 'neutron::db':
  database_connection => "mysql+pymysql://neutron:${password}@127.0.0.1/neutron?charset=utf8",
}
class { 'neutron':
  default_transport_url => $broker,
  service_plugins       => ['router'],
}
class { 'neutron::server':
  sync_db => true,
}
class { ['neutron::server::notifications::nova', 'neutron::server::placement']:
  auth_url => $keystone,
  password => $password,
}
include neutron::client
include neutron::server::notifications
class { 'neutron::plugins::ml2':
  extension_drivers    => ['port_security'],
  mechanism_drivers    => ['openvswitch'],
  tenant_network_types => ['vxlan'],
  type_drivers         => ['flat', 'vlan', 'vxlan'],
}
# Their kernels need not have the module openvswitch either.
class { 'neutron::agents::ml2::ovs':
  datapath_type   => 'netdev',
  firewall_driver => 'openvswitch',
  local_ip        => $address,
  tunnel_types    => ['vxlan'],
}
class { ['neutron::agents::dhcp', 'neutron::agents::l3']:
  interface_driver => 'openvswitch',
}
class { 'neutron::agents::metadata':
  metadata_host => 'controller',
  shared_secret => $password,
}

# nova's daemons look for placement as they start, and end where it has an endpoint but no answer.
Keystone_endpoint<||>
-> Anchor['placement::service::end']
-> Service['nova-compute', 'nova-conductor', 'nova-scheduler']
