"""openstack-node: set up and check the OpenStack services of a node.

This needs only Python 3.9 and its standard library. Each service's package describes it in a
file in /usr/share/openstack-node/services; nothing here names a service.
"""
