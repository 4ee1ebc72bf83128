"""HTTP requests, all in one place, with the system's certificates and credentials."""

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
    """A server did not return what was requested; the text contains no credentials.

    `status`: of its answer, 0 if there was none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(index.mask_secrets(text))
        self.status = status


class Credentials(AuthBase):
    """The user and password of a request's own origin, if there are any (RFC 7617).

    requests removes them when it follows a redirect to another host.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add them to the request."""
        url = request.url or ""
        found = index.find_credentials(url) or get_netrc_auth(url)
        if not found and (own := get_auth_from_url(url)) != ("", ""):
            found = own
        if not found:
            return request
        # requests would encode them as Latin-1; uv and pip use UTF-8
        user, password = (part.encode() for part in found)
        signed: PreparedRequest = HTTPBasicAuth(user, password)(request)
        return signed


def open_session() -> requests.Session:
    """Return a session; threads need one each."""
    made = requests.Session()
    made.auth = Credentials()
    if SYSTEM_CERTIFICATES.exists():  # it includes an operator's own authority
        made.verify = str(SYSTEM_CERTIFICATES)
    return made


def get(url: str, *, timeout: float, largest: int) -> bytes:
    """Return the content of a URL; NoAnswerError if it is unavailable or larger than `largest`."""
    found = bytearray()
    try:
        with open_session() as client, client.get(url, timeout=timeout, stream=True) as answer:
            if not answer.ok:
                raise NoAnswerError(f"{answer.status_code} {answer.reason}", answer.status_code)
            for chunk in answer.iter_content(CHUNK):
                found += chunk
                if len(found) > largest:
                    raise NoAnswerError(f"more than {largest} bytes")
    except (requests.RequestException, ValueError) as error:  # ValueError: an invalid URL
        raise NoAnswerError(str(error)) from error
    return bytes(found)


def choose_hint(status: int, otherwise: str) -> str:
    """Return the hint for a status: where to put credentials if it refuses them, or `otherwise`."""
    return index.HINT if status in REFUSED else otherwise
