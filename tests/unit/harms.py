"""What may stand where a file is expected: a directory, a fifo, a link to what has no end."""

import os


def become_directory(path):
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inside").touch()


def become_fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def become_endless(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


HARMS = (become_directory, become_fifo, become_endless)
