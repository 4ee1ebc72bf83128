"""Which package indexes to ask: those that uv and pip are configured for on this machine.

An index's user and password are sent only to its own origin (scheme, host and port) and are never
printed or stored: messages pass through `mask_secrets`.
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
    "put the user and password of a package index into its URL, into a netrc file, or into "
    "UV_INDEX_<NAME>_USERNAME and _PASSWORD for UV_DEFAULT_INDEX=<name>=<URL>"
)

# Credentials from URLs the user gave, by origin. They apply to the whole run.
_given: dict[str, tuple[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Index:
    """A package index: its URL without user and password, those, and its name for uv."""

    url: str
    user: str = ""
    password: str = ""
    name: str = ""


def find_index() -> Index | None:
    """Return the configured index, or None for the clients' own default.

    uv's variables come first, then pip's variable, then pip's files (the last one wins, as
    in pip's own order: site, user, PIP_CONFIG_FILE). Raises DataError for a pip file that
    cannot be read, UsageError for an invalid URL.
    """
    for variable in VARIABLES:
        if value := os.environ.get(variable, "").strip():
            return _parse_index(value, variable)
    file, url = _read_pip_files()
    return _parse_index(url, file) if url else None


def list_further_indexes() -> list[Index]:
    """Return the indexes to ask before the one of `find_index`, in uv's order.

    Raises UsageError for an invalid URL.
    """
    return [_parse_index(word, FURTHER) for word in os.environ.get(FURTHER, "").split()]


def _read_pip_files() -> tuple[str, str]:
    """Return the index from pip's files, and the file that names it."""
    found = "", ""
    for file in (*PIP_FILES, os.environ.get("PIP_CONFIG_FILE", "")):
        if not file:
            continue
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(file).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{file}: not a pip configuration: {mask_secrets(reason)}") from error
        except (RuntimeError, OSError):  # no home, or not readable by this account
            continue
        url = parser.get("global", "index-url", fallback="").strip()
        found = (file, url) if url else found
    return found


def _parse_index(text: str, origin: str) -> Index:
    named = origin.startswith("UV") and "=" in text.partition("://")[0]  # uv: `name=URL`
    name, address = text.split("=", 1) if named else ("", text)
    if not _is_url(address):
        raise UsageError(f"{origin}: not a URL: {mask_secrets(text)!r}")
    url, user, password = split(address)
    if name:
        stem = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        user = os.environ.get(f"{stem}_USERNAME") or user
        password = os.environ.get(f"{stem}_PASSWORD") or password
    return Index(url, user, password, name)


def _is_url(text: str) -> bool:
    """Whether a text is a URL of an index: with a host, and a port that is one."""
    try:
        parts = urlsplit(text)
        whole = parts.scheme == "file" or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # an unmatched bracket, a port that is no number
        return False
    return whole and re.match(r"(https?|file)://", text) is not None


def split(url: str) -> tuple[str, str, str]:
    """Return a URL without user and password, then those two, percent-decoded (RFC 3986)."""
    try:
        parts = urlsplit(url)
    except ValueError as error:  # an unmatched bracket
        raise UsageError(f"expected a URL, got {mask_secrets(url)!r}") from error
    account, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, "", ""
    user, _, password = account.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def strip_credentials(url: str) -> str:
    """Return the user's URL without user and password, which are remembered for its origin."""
    clean, user, password = split(url)
    if user or password:
        _given[parse_origin(clean)] = user, password
    return clean


def parse_origin(url: str) -> str:
    """Return the origin of a URL (RFC 6454): scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def find_credentials(url: str) -> tuple[str, str] | None:
    """Return the user and password for a URL: those of an index, or of a URL with its origin."""
    here = parse_origin(url)
    for found in (*list_further_indexes(), find_index()):
        if found and (found.user or found.password) and parse_origin(found.url) == here:
            return found.user, found.password
    return _given.get(here)


def mask_secrets(text: str) -> str:
    """Return a text with the credentials of its URLs, and all known passwords, masked."""
    text = re.sub(r"(?<=://)[^/\s@'\"<>]*@", "****@", text)
    for secret in _list_secrets():
        text = text.replace(secret, "****")
    return text


def _list_secrets() -> set[str]:
    known = {password for _, password in _given.values()}
    for name, value in os.environ.items():
        if re.fullmatch(r"UV_INDEX_.*_PASSWORD", name):
            known.add(value)
        elif name in VARIABLES:
            known.add(_parse_password(value))
        elif name == FURTHER:
            known |= {_parse_password(word) for word in value.split()}
    long = {s for s in known if len(s) > 3}  # shorter ones occur in too many words
    return long | {quote(s, safe="") for s in long}


def _parse_password(address: str) -> str:
    """Return the password in an address, `URL` or `name=URL`, malformed ones too; else nothing."""
    authority = re.split("[/?#]", address.partition("://")[2], maxsplit=1)[0]
    return unquote(authority.rpartition("@")[0].partition(":")[2])


def list_urls(default: str) -> list[str]:
    """Return the URLs of the indexes in the order to ask them, without credentials.

    `default` is the clients' own, used if none is configured.
    """
    found = find_index()
    return [*(extra.url for extra in list_further_indexes()), found.url if found else default]


def list_uv_arguments() -> list[str]:
    """Return the options that make uv ignore all configuration but `make_uv_environment`."""
    return ["--no-config"]


def make_uv_environment() -> dict[str, str]:
    """Return the index as uv's variables, which other accounts cannot see."""
    found = find_index()
    if found is None:
        return {}
    parts = urlsplit(found.url)
    account = ":".join(quote(part, safe="") for part in (found.user, found.password))
    netloc = f"{account}@{parts.netloc}" if account != ":" else parts.netloc
    url = urlunsplit(parts._replace(netloc=netloc))
    return {"UV_DEFAULT_INDEX": f"{found.name}={url}" if found.name else url}
