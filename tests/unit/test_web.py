"""The tests' own web server."""

import socket
import struct
from urllib.parse import urlsplit

from wheelhouse import serving


def test_a_client_that_leaves_in_the_middle_of_an_answer_says_nothing(tmp_path, capfd):
    """What the command under test says is read from the same stderr."""
    large = tmp_path / "large-1.0-py3-none-any.whl"
    large.write_bytes(bytes(32 << 20))
    with serving() as index:
        index.add(large)
        index.server.daemon_threads = False  # closing waits for the answer
        where = urlsplit(index.base)
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(f"GET /files/{large.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert capfd.readouterr().err == ""
