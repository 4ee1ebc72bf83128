"""A terminal of 80 columns, and a program that speaks to it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pyte

SECONDS = 30  # for a text to come


class Terminal:
    """A program whose standard error is a terminal; its standard input is a pipe of ours."""

    def __init__(self, argv, columns=80, **env):
        self.columns = columns
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
        environment = {**inherited, "TERM": "xterm", "CI": "", **env}
        self.program = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.said = ""

    def until(self, pattern):
        """Read until what was said has it; return whether it does, in time."""
        end = time.monotonic() + SECONDS
        while not re.search(pattern, self.said):
            left = max(0, end - time.monotonic())
            if not select.select([self.ours], [], [], left)[0] or not left:
                return False
            try:
                data = os.read(self.ours, 65536)
            except OSError:  # what a terminal nobody writes to any more gives
                data = b""
            if not data:
                return False
            self.said += data.decode()
        return True

    def type(self, line):
        self.program.stdin.write(line.encode())
        self.program.stdin.flush()

    def end(self):
        """Wait for the program; return its exit status."""
        self.until(r"(?!)")
        self.program.communicate()
        os.close(self.ours)
        return self.program.returncode

    @property
    def drawn(self):
        """Every text that was written, without what moves the cursor or has a colour."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said)
        return [text for text in re.split(r"[\r\n]+", plain) if text]

    @property
    def left(self):
        """The lines that are seen in the end."""
        screen = pyte.Screen(self.columns, 24)
        pyte.Stream(screen).feed(self.said)
        return [line.rstrip() for line in screen.display if line.strip()]
