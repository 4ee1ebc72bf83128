"""A web server on 127.0.0.1 for tests, silent when a client goes away."""

import sys
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """What a client that leaves in the middle of an answer breaks is no error of the test's.

    The traceback would stand among what the command under test says, which runs in this process.
    """

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def web_server(handler):
    """Serve with that handler; give the address, without a slash at its end."""
    with running(Server(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def running(server):
    """Have a server answer for a block."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
