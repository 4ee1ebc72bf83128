"""A terminal of 80 columns, and a program that speaks to it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios


class Terminal:
    """A program whose standard error is a terminal; its standard input is a pipe of ours."""

    def __init__(self, argv, columns=80, **env):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm", **env}
        self.program = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.said = ""

    def until(self, pattern):
        """Read until what was said has it; return whether it does."""
        while not re.search(pattern, self.said):
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
        """Every text that stood in a line, redrawn ones too."""
        return [text for text in re.split(r"\r\n|\r\x1b\[K|\n", self.said) if text]

    @property
    def left(self):
        """The lines that are seen in the end."""
        return [line.split("\r\x1b[K")[-1] for line in self.said.split("\r\n")][:-1]
