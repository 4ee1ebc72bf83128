"""What tests of the node's command share: its modules, and a made-up service."""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "builder/payload"))

from openstack_node import manifest, system  # noqa: E402 - they are found only now

NAME = "toy-api.service"
NOW = time.time()
CONNECTION = "[database]\nconnection = mysql+pymysql://toy:SECRET@db/toy\n"

# What a service's upgrade check prints.
CHECKS = """\
+----------------------------+
| Upgrade Check Results      |
+----------------------------+
| Check: Cells v2            |
| Result: Success            |
| Details: None              |
+----------------------------+
| Check: Placement API       |
| Result: Failure            |
| Details: No credentials,   |
|   set [placement].         |
+----------------------------+
"""
SCHEMA = {
    "name": "main",
    "migrations": "toy/versions",
    "section": "database",
    "option": "connection",
    "suffix": "",
    "table": "alembic_version",
    "cells": None,
}
SYNC = {
    "title": "bring the database to this release",
    "command": ["toy-manage", "db", "sync"],
    "schemas": ["main"],
    "done": "current",
    "secret": {},
    "options": [],
    "environment": {},
    "passed": [],
    "package": "",
}
BOOTSTRAP = {
    "title": "make the first user",
    "command": ["toy-manage", "bootstrap"],
    "schemas": ["main"],
    "done": "SELECT 1 FROM assignment",
    "secret": {"OS_BOOTSTRAP_PASSWORD": "Password"},
    "options": [
        {"name": "toy-url", "title": "the address of toy", "default": "http://{host}:5000/v3/"},
        {"name": "region", "title": "the region", "default": "RegionOne"},
    ],
    "environment": {
        "OS_BOOTSTRAP_PUBLIC_URL": "{toy-url}",
        "OS_BOOTSTRAP_REGION_ID": "{region}",
    },
    "passed": ["OS_BOOTSTRAP_USERNAME"],
    "package": "",
}
KNOWN = {
    "options": {
        "DEFAULT": {"debug": "", "filters": "m", "old": "d", "enabled_backends": ""},
        "database": {"connection": ""},
        "placement": {"auth_type": "", "auth_section": "", "region_name": ""},
        "backend_defaults": {"volume_group": ""},
    },
    "renamed": {"DEFAULT": {"sql_connection": "[database] connection"}},
}
DYNAMIC = [
    {"like": ["backend_defaults"], "named_by": "DEFAULT/enabled_backends", "pattern": ""},
    {"like": ["backend_defaults"], "named_by": "", "pattern": "mdev_.+"},
]


def service(root, *, name="toy", order=10, units=None, **data):
    """Return a service whose files are below `root`."""
    etc = root / "etc" / name
    (etc / f"{name}.conf.d").mkdir(parents=True, exist_ok=True)
    options = root / "options.json"
    options.write_text(json.dumps(KNOWN))
    chain = [f"{etc}/{name}.conf", f"{etc}/{name}.conf.d/"]
    if units is None:
        units = [unit(f"{name}-api", chain, kind="uwsgi", needs=["connection"])]
    values = {
        "service": name,
        "package": f"{name}-common",
        "site": str(root / "site"),
        "directory": str(etc),
        "configs": [{"live": chain[0], "pristine": ""}],
        "options": str(options),
        "upgrade_check": [],
        "packages": [f"openstack-2099.1-{name}", *(u.package for u in units)],
        "upgrade": [],
        "schemas": [SCHEMA],
        "setup": [SYNC],
        "settings": [],
        "dynamic": DYNAMIC,
        **data,
    }
    return manifest.Service(
        name=name,
        title="OpenStack Toy",
        series="2099.1",
        version="1.0-1",
        tree=root / "tree",
        user="toy",
        order=order,
        installed=frozenset(u.package for u in units),
        units=units,
        data=values,
    )


def unit(name, configs, *, kind="daemon", needs=(), start="now"):
    """Return a unit, in the package of its name."""
    return manifest.Unit(f"{name}.service", name, kind, start, list(needs), list(configs), [])


def write(toy, text, drop_in=""):
    """Write the service's configuration file, or one of its directory of further ones."""
    path = Path(toy.configs[1], drop_in) if drop_in else Path(toy.configs[0])
    path.write_text(text)
    return str(path)


def state(**values):
    """Return the state of the unit of the made-up service, which runs."""
    known = {"load": "loaded", "enabled": "enabled", "since": NOW - 300, "started": 4e9}
    return system.UnitState(NAME, **{**known, **values})
