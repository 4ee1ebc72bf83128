"""What tests of restarts share: a node with a service of two units."""

import dataclasses
import os
import time

from nodeside import service, unit, write
from openstack_node import databases, gate, manifest, restarts, system, units

API, WORKER = "toy-api.service", "toy-worker.service"


def state(name, active="active", **values):
    return system.UnitState(name, active=active, **{"enabled": "enabled", **values})


class Node:
    """A node with a service of two units, whose systemd is as the test says."""

    def __init__(self, root, monkeypatch):
        self.root, self.verbs, self.policy, self.waited = root, [], [], []
        chain = [f"{root}/etc/toy/toy.conf"]
        needs = ["connection"]
        made = [
            unit("toy-api", chain, kind="uwsgi", needs=needs),
            unit("toy-worker", chain, needs=needs),
        ]
        self.toy = service(root, units=made)
        write(self.toy, "[database]\nconnection = x\n")
        self.units = {n: state(n, started=time.time()) for n in (API, WORKER)}
        self.broker = None
        self.schema = databases.Schema("main", "current", "", "toy", "db", "toy")
        self.system = system.run
        self.after_restart = []
        for name in ("DEFAULTS", "POLICY", "SYSTEMD"):
            monkeypatch.setattr(restarts, name, root / name)
        monkeypatch.setattr(units, "LISTS", root / "LISTS")
        units.LISTS.mkdir()
        restarts.SYSTEMD.mkdir()
        monkeypatch.setattr(system, "run", self.run)
        monkeypatch.setattr(system, "run_systemctl", self.systemctl)
        monkeypatch.setattr(system, "read_unit_states", lambda names: {
            n: self.units[n] for n in names if n in self.units
        })  # fmt: skip
        monkeypatch.setattr(
            manifest, "load_shipped", lambda name: self.toy if name == "toy" else None
        )
        monkeypatch.setattr(gate, "find_later_site", lambda _toy: "")
        monkeypatch.setattr(databases, "ask", lambda _toy, _files, **_: databases.Answer(
            {"main": self.schema}, broker=self.broker
        ))  # fmt: skip
        monkeypatch.delenv(restarts.VARIABLE, raising=False)

    def run(self, argv, **options):
        if argv == ["systemctl", "--system", "daemon-reload"]:
            return system.Done(0, "")
        if argv[0] == "journalctl":
            return system.Done(0, "started\nRuntimeError: no bindings\n")
        assert argv[0] == str(restarts.POLICY)
        return self.system(argv, **options)

    def systemctl(self, verb, names, *, wait=False):
        self.verbs.append((verb, names))
        self.waited += names if wait else []
        for name in names:
            if name in self.units and self.after_restart:
                self.units[name] = self.after_restart[0]
        return system.Done(0, "")

    def is_behind(self):
        pending = [databases.Migration("e1", "add a column", removes=False)]
        self.schema = dataclasses.replace(self.schema, state="behind", pending=pending)

    def unpack(self, package, when):
        """Have dpkg unpack a package at a time."""
        path = units.LISTS / f"{package}.list"
        path.touch()
        os.utime(path, (when, when))

    def configure(self, action, *names):
        """What a package's postinst does."""
        assert restarts.main(action, "toy", list(names or (API, WORKER))) == 0
