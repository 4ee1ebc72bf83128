"""Where the command starts: three processes, so that none is left behind however it is killed.

The process that the user started waits, and passes on the signals it gets. Its child, the
keeper, has its own session and is the subreaper of everything below it
(PR_SET_CHILD_SUBREAPER, prctl(2)): when the first process is gone, however it died, or the
work has ended, it kills what is left, including processes in the background. Its child
does the work; a terminal's signals reach only that one, through the other two.

Only small modules of the standard library are imported before all this is set up.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSING = (signal.SIGTSTP, signal.SIGCONT)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Called with the exit code when a signal ends the worker.
at_end: list[Callable[[int], None]] = []
SECONDS_TO_END = 30.0  # for removing files after a signal; then the worker is killed


def main() -> None:
    """Run the command line in a process that ends with this one, and exit as it does."""
    _open_standard_streams()
    if sys.getfilesystemencoding() != "utf-8":
        from builder import run  # noqa: PLC0415 - it takes a while

        run.restart_in_utf8()
    signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, *PAUSING))
    alive, held = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(alive)
        os._exit(_wait_for_keeper(keeper))
    os.close(held)
    _keep(alive)
    # from here on this is the worker
    from builder import cli  # noqa: PLC0415 - interrupts are already handled while it is imported

    cli.main()


def _open_standard_streams() -> None:
    """Open those of 0, 1 and 2 that the caller closed, so that no other file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _wait_for_keeper(keeper: int) -> int:
    """Act as the first process: pass signals on to the keeper; return the exit code."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        _send(keeper, number)
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    _handle(pass_on, *ENDING, *PAUSING)
    return _decode_status(os.waitpid(keeper, 0)[1])


def _keep(alive: int) -> None:
    """Act as the keeper of the first process; return only in the worker.

    The first process has the other end of the pipe `alive`, which the kernel closes when it ends.
    """
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    working, held = os.pipe()  # likewise for the worker; programs it starts do not inherit it
    worker = os.fork()
    if worker == 0:
        os.close(alive)
        os.close(working)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(1)
        _handle(lambda number, _frame: _end(number), *ENDING)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PAUSING)
        return
    os.close(held)
    os._exit(_watch_worker(worker, working, alive))


def _watch_worker(worker: int, working: int, alive: int) -> int:
    """Wait until the worker or the first process ends; leave no descendants.

    `working` and `alive` are pipes that reach end of file when those are gone.
    """
    told: list[float] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number in ENDING:
            told.append(time.monotonic())
            _send(worker, number)
        else:
            stop = number == signal.SIGTSTP
            for pid in list_descendants(os.getpid()):
                _send(pid, signal.SIGSTOP if stop else signal.SIGCONT)

    _handle(pass_on, *ENDING, *PAUSING)
    poll = select.poll()
    poll.register(working, select.POLLIN)
    poll.register(alive, select.POLLIN)
    while (ready := {fd for fd, _ in poll.poll(500)}) != {working}:
        if alive in ready:  # the first process is gone
            poll.unregister(alive)
            _send(worker, signal.SIGCONT)
            pass_on(signal.SIGTERM, None)
        if told and time.monotonic() - told[0] > SECONDS_TO_END:
            _send(worker, signal.SIGKILL)
    status = os.waitpid(worker, 0)[1]
    _end_all()
    if os.WIFSIGNALED(status):
        text = f"error: killed by signal {os.WTERMSIG(status)}\n"
        if os.WTERMSIG(status) == signal.SIGKILL and not told:
            text += (
                "hint: the kernel kills processes that use too much memory; --jobs 1 uses less\n"
            )
        _write(text)
    return _decode_status(status)


def _end_all() -> None:
    """Kill all descendants, until there are none."""
    while True:
        for pid in list_descendants(os.getpid()):
            _send(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _end(number: int) -> NoReturn:
    """End the worker after a signal; leave none of its processes and temporary files.

    Nothing is unwound: threads that wait for a download or a compiler would delay that.
    Results become visible by a rename, so none is incomplete.
    """
    _handle(signal.SIG_IGN, *ENDING)
    # the progress display hides the cursor
    shown = "\r\x1b[K\x1b[?25h" if os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
    name = signal.Signals(number).name
    _write(f"{shown}{name}: ended; finished work is in the cache\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # threads may complain about what is killed now
    for pid in list_descendants(os.getpid()):
        _send(pid, signal.SIGKILL)
    for call in at_end[::-1]:
        with suppress(OSError):
            call(128 + number)
    os._exit(128 + number)


def list_descendants(ancestor: int) -> list[int]:
    """Return the descendants of a process, by the parents that /proc names (proc(5))."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names alone
        if entry.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                # the name, in parentheses, may contain anything
                text = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2]
                children.setdefault(int(text.split()[1]), []).append(int(entry))
    found, todo = [], [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def end_with_parent() -> None:
    """Have this process killed when its parent ends, however it ends."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)) that takes one value."""
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _handle(handler: object, *numbers: signal.Signals) -> None:
    """Set a handler; signals that the caller ignores (nohup, a job of a script) stay ignored."""
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _decode_status(status: int) -> int:
    """Return a shell's exit code for a status of waitpid(2)."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _write(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode())
