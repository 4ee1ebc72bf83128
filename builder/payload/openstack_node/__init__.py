"""openstack-node: set up and check the OpenStack services of a node.

Python 3.9 and its standard library are all this needs. What a service is, its package
says in a file of /usr/share/openstack-node/services; nothing here names one.
"""
