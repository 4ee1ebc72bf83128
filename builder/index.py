"""Which package indexes to ask: those the clients (uv, pip) of this machine are set up for.

An index's user and password are sent to its own origin (scheme, host and port) and to no other,
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
FURTHER = "UV_INDEX"  # URLs separated by blanks, which uv asks before the index itself
PORTS = {"http": 80, "https": 443}
HINT = (
    "the user and password of a package index stand in its URL, in a netrc file, or in "
    "UV_INDEX_<NAME>_USERNAME and _PASSWORD for UV_DEFAULT_INDEX=<name>=<URL>"
)

PASSWORDS = re.compile(r"://[^/\s@:]*:([^/\s@]*)@")
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
            return _index(value, variable)
    file, url = _of_pip()
    return _index(url, file) if url else None


def further() -> list[Index]:
    """Return the indexes to ask before the one of `configured`, in uv's order.

    Raises UsageError for a URL that is none.
    """
    return [_index(word, FURTHER) for word in os.environ.get(FURTHER, "").split()]


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


def _index(text: str, origin: str) -> Index:
    named = origin.startswith("UV") and "=" in text.partition("://")[0]  # uv: `name=URL`
    name, address = text.split("=", 1) if named else ("", text)
    url, user, password = split(address)
    if not re.match(r"(https?|file)://", url):
        raise UsageError(f"{origin}: not a URL: {hidden(text)!r}")
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
    """Return the user and password for a URL: those of an index, or of a URL with its origin."""
    here = origin(url)
    for found in (*further(), configured()):
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
        elif name in {*VARIABLES, FURTHER}:
            known |= {unquote(password) for password in PASSWORDS.findall(value)}
    long = {s for s in known if len(s) > 3}  # a shorter one is a part of too many words
    return long | {quote(s, safe="") for s in long}


def index_urls(default: str) -> list[str]:
    """Return the URLs of the indexes in the order to ask them, without credentials.

    `default` is the clients' own, for where none is set up.
    """
    found = configured()
    return [*(extra.url for extra in further()), found.url if found else default]


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
