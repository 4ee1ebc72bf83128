"""Which package index to ask: the one the clients (uv, pip) of this machine are set up for.

Its user and password are sent to the index's own origin (scheme, host and port) and to no other,
and are in nothing that is said or kept: what goes to a person passes `hidden`.
"""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from builder.errors import DataError, UsageError

PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
PORTS = {"http": 80, "https": 443}
HINT = (
    "the user and password of a package index stand in its URL, in a netrc file, or in "
    "UV_INDEX_<NAME>_USERNAME and _PASSWORD for UV_DEFAULT_INDEX=<name>=<URL>"
)

# The credentials of the URLs a person gave, by origin. They belong to the run as a whole.
_given: dict[str, tuple[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Index:
    """A package index: its URL without user and password, those, and its name for uv."""

    url: str
    user: str = ""
    password: str = ""
    name: str = ""


def configured() -> Index | None:
    """Return the index that is set up, or None for the clients' own default.

    uv's variables come first, then pip's variable, then pip's files (the last one wins, as
    in pip's own order: site, user, PIP_CONFIG_FILE). Raises DataError for a file of pip's
    that cannot be read, UsageError for a URL that is none.
    """
    for variable in VARIABLES:
        if value := os.environ.get(variable, "").strip():
            # uv: `name=URL`
            named = variable.startswith("UV") and "=" in value.partition("://")[0]
            name, url = value.split("=", 1) if named else ("", value)
            return _index(url, name, variable)
    file, url = _of_pip()
    return _index(url, "", file) if url else None


def _of_pip() -> tuple[str, str]:
    """Return the index of pip's files, and the file that says so."""
    found = "", ""
    for file in (*PIP_FILES, os.environ.get("PIP_CONFIG_FILE", "")):
        if not file:
            continue
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(file).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{file}: not a configuration of pip: {hidden(reason)}") from error
        except (RuntimeError, OSError):  # no home, or not for this account to read
            continue
        url = parser.get("global", "index-url", fallback="").strip()
        found = (file, url) if url else found
    return found


def _index(text: str, name: str, origin: str) -> Index:
    url, user, password = split(text)
    if not re.match(r"(https?|file)://", url):
        raise UsageError(f"{origin}: a URL is wanted, not {hidden(text)!r}")
    if name:
        stem = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        user = os.environ.get(f"{stem}_USERNAME") or user
        password = os.environ.get(f"{stem}_PASSWORD") or password
    return Index(url, user, password, name)


def split(url: str) -> tuple[str, str, str]:
    """Return a URL without user and password, and these (percent signs read: RFC 3986)."""
    try:
        parts = urlsplit(url)
    except ValueError as error:  # a bracket without its other
        raise UsageError(f"a URL is wanted, not {hidden(url)!r}") from error
    account, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, "", ""
    user, _, password = account.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def public(url: str) -> str:
    """Return a URL a person gave without user and password, which are kept for its origin."""
    clean, user, password = split(url)
    if user or password:
        _given[origin(clean)] = user, password
    return clean


def origin(url: str) -> str:
    """Return the origin of a URL (RFC 6454): scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def credentials(url: str) -> tuple[str, str] | None:
    """Return the user and password for a URL: those of the index, or of a URL with its origin."""
    found = configured()
    here = origin(url)
    if found and (found.user or found.password) and origin(found.url) == here:
        return found.user, found.password
    return _given.get(here)


def hidden(text: str) -> str:
    """Return a text without the users and passwords of URLs in it, and without those we know."""
    text = re.sub(r"(?<=://)[^/\s@'\"<>]*@", "****@", text)
    for secret in _secrets():
        text = text.replace(secret, "****")
    return text


def _secrets() -> set[str]:
    known = {password for _, password in _given.values()}
    for name, value in os.environ.items():
        if re.fullmatch(r"UV_INDEX_.*_PASSWORD", name):
            known.add(value)
        elif name in VARIABLES and "@" in value:
            known.add(unquote(urlsplit(value).netloc.rpartition("@")[0].partition(":")[2]))
    long = {s for s in known if len(s) > 3}  # a shorter one is a part of too many words
    return long | {quote(s, safe="") for s in long}


def index_url() -> str | None:
    """Return the URL of the index, without credentials; None for the clients' own default."""
    found = configured()
    return found.url if found else None


def uv_arguments() -> list[str]:
    """Return the options with which uv has no configuration but `uv_environment`."""
    return ["--no-config"]


def uv_environment() -> dict[str, str]:
    """Return what tells uv of the index: in variables, which other accounts do not see."""
    found = configured()
    if found is None:
        return {}
    parts = urlsplit(found.url)
    account = ":".join(quote(part, safe="") for part in (found.user, found.password))
    netloc = f"{account}@{parts.netloc}" if account != ":" else parts.netloc
    url = urlunsplit(parts._replace(netloc=netloc))
    return {"UV_DEFAULT_INDEX": f"{found.name}={url}" if found.name else url}
