"""Ask a server: the one way of this program, with the system's certificates and credentials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, get_netrc_auth

from builder import index

if TYPE_CHECKING:
    from requests import PreparedRequest

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
REFUSED = frozenset({401, 403, 407})
CHUNK = 1 << 16


class NoAnswerError(Exception):
    """A server did not give what was asked for; its text has no credentials.

    `status`: of its answer, 0 where there was none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(index.hidden(text))
        self.status = status


class Credentials(AuthBase):
    """The user and password of a request's own origin, if there are any (RFC 7617).

    requests takes them off a request that is sent on to another host.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put them into the request."""
        url = request.url or ""
        found = index.credentials(url) or get_netrc_auth(url)
        if not found and (own := get_auth_from_url(url)) != ("", ""):
            found = own
        if not found:
            return request
        # requests would write them as Latin-1, and uv and pip do as UTF-8
        user, password = (part.encode() for part in found)
        signed: PreparedRequest = HTTPBasicAuth(user, password)(request)
        return signed


def session() -> requests.Session:
    """Return a session; threads need one each."""
    made = requests.Session()
    made.auth = Credentials()
    if SYSTEM_CERTIFICATES.exists():  # an operator's own authority is known there
        made.verify = str(SYSTEM_CERTIFICATES)
    return made


def get(url: str, *, timeout: float, largest: int) -> bytes:
    """Return what is at a URL; NoAnswerError where it is not there, or larger than `largest`."""
    found = bytearray()
    try:
        with session() as client, client.get(url, timeout=timeout, stream=True) as answer:
            if not answer.ok:
                raise NoAnswerError(f"{answer.status_code} {answer.reason}", answer.status_code)
            for chunk in answer.iter_content(CHUNK):
                found += chunk
                if len(found) > largest:
                    raise NoAnswerError(f"more than {largest} bytes")
    except (requests.RequestException, ValueError) as error:  # ValueError: of a URL
        raise NoAnswerError(str(error)) from error
    return bytes(found)


def hint(status: int, otherwise: str) -> str:
    """Return what to do about an answer: where credentials stand, if they are what is missing."""
    return index.HINT if status in REFUSED else otherwise
