"""The journal of an upgrade under way, by which the same command resumes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

JOURNAL = Path("/var/lib/openstack-node/upgrade.json")


class Journal:
    """A file of the finished steps of an upgrade under way, and the units that ran before it."""

    def __init__(self, series: str, path: Path = JOURNAL) -> None:
        self.path = path
        self.done: list[str] = []
        self.running: list[str] = []
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["series"] == series:
                self.done, self.running = found["done"], found.get("running", [])
        self.series = series

    def remember(self, running: list[str]) -> None:
        """Record the units that run as an upgrade begins; when it resumes, keep that record."""
        if not self.done and not self.running:
            self.running = running
            self._write()

    def note(self, key: str) -> None:
        """Record a finished step, synced to disk."""
        self.done.append(key)
        self._write()

    def forget(self, service: str) -> None:
        """Remove a service's steps: it was rolled back."""
        self.done = [k for k in self.done if not k.startswith(f"{service}/")]
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            data = {"series": self.series, "done": self.done, "running": self.running}
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def close(self) -> None:
        """Delete the file: the upgrade is complete."""
        if self.path.exists():
            self.path.unlink()
