"""Which package index to ask: the one the clients (uv, pip) of this machine are set up for."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def index_url() -> str | None:
    """Return the configured index, or None for the clients' own default.

    uv's variables come first, then pip's variable, then pip's files (the last one wins, as
    in pip's own order: site, user, PIP_CONFIG_FILE).
    """
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if value := os.environ.get(name):
            return value.split("=", 1)[-1] if value.partition("://")[0].count("=") else value
    found = None
    for file in (*PIP_FILES, os.environ.get("PIP_CONFIG_FILE", "")):
        if not file:
            continue
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(Path(file).expanduser())
        found = parser.get("global", "index-url", fallback=found)
    return found


def uv_arguments() -> list[str]:
    """Return the options with which uv asks that index, and no other configuration of a user."""
    url = index_url()
    return ["--no-config", *(["--default-index", url] if url else [])]
