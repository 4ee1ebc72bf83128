"""The only thing a node can reach: a web server at the bridge's own address.

It is two servers in one. A path is a file of the repository under test, so that
nodes fetch that by http as a user's would. An absolute address is a request to a
proxy, for Debian's packages; those are kept, as a package file never changes.

The listening socket is made inside the bridge's network namespace and stays there;
what the server opens itself goes through the host's network.
"""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

CLONE_NEWNET = 0x40000000
CONDITIONS = ("If-Modified-Since", "Cache-Control", "User-Agent")
KEPT = ("Content-Length", "Content-Type", "Last-Modified")
ATTEMPTS = 3


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def __init__(self, *args, cache: Path, schemes: dict[str, str], **kwargs) -> None:
        self.cache = cache
        self.schemes = schemes
        super().__init__(*args, **kwargs)

    def log_message(self, *_args) -> None:
        """Say nothing: pytest shows the node's side of a failure."""

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if not where.netloc:
            super().do_GET()
        elif where.netloc not in self.schemes:
            self.send_error(403, "Not one of this machine's Debian mirrors")
        elif "/pool/" in where.path:
            self._kept(where.netloc, where.path)
        else:
            self._passed(where.netloc, where.path)

    def _open(self, host: str, path: str) -> http.client.HTTPResponse:
        headers = {k: self.headers[k] for k in CONDITIONS if k in self.headers}
        address = f"{self.schemes[host]}://{host}{path}"
        request = urllib.request.Request(address, headers=headers)  # noqa: S310
        return urllib.request.urlopen(request, timeout=60)  # noqa: S310

    def _passed(self, host: str, path: str) -> None:
        """Relay an index: it may have changed, and apt says which one it has."""
        try:
            reply = self._open(host, path)
        except urllib.error.HTTPError as error:
            self.send_response(error.code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with reply:
            body = reply.read()
            self.send_response(reply.status)
            for name in KEPT:
                if name in reply.headers and name != "Content-Length":
                    self.send_header(name, reply.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _kept(self, host: str, path: str) -> None:
        """Give a package from the cache, after fetching it if need be."""
        name = hashlib.sha256(f"{host}{path}".encode()).hexdigest()
        held = self.cache / name
        if not held.exists():
            status = self._fetch(host, path, held)
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(200)
        self.send_header("Content-Length", str(held.stat().st_size))
        self.end_headers()
        with held.open("rb") as stream:
            shutil.copyfileobj(stream, self.wfile)

    def _fetch(self, host: str, path: str, held: Path) -> int:
        status = 502
        for _ in range(ATTEMPTS):
            try:
                with (
                    self._open(host, path) as reply,
                    tempfile.NamedTemporaryFile(dir=self.cache, delete=False) as out,
                ):
                    shutil.copyfileobj(reply, out)
                size = reply.headers["Content-Length"]
                if size is None or Path(out.name).stat().st_size == int(size):
                    Path(out.name).rename(held)
                    return 200
                Path(out.name).unlink()
            except urllib.error.HTTPError as error:
                status = error.code
            except (OSError, http.client.HTTPException):
                status = 502
        return status


def _bound(namespace: Path, address: tuple[str, int], handler: partial[_Handler]):
    """Return a server listening on `address` in `namespace`; wants a thread of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))
    return ThreadingHTTPServer(address, handler)


class Mirror:
    """The server; `close` ends it."""

    def __init__(
        self,
        namespace: Path,
        address: tuple[str, int],
        *,
        repo: Path,
        cache: Path,
        schemes: dict[str, str],
    ) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        handler = partial(_Handler, directory=str(repo), cache=cache, schemes=schemes)
        # setns moves only the calling thread, which ends here; the socket stays behind.
        with ThreadPoolExecutor(max_workers=1) as pool:
            self._server = pool.submit(_bound, namespace, address, handler).result()
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
