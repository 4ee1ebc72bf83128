"""The only module that starts a process.

Standard input is closed, the environment is rebuilt from an allow-list, and the
output is captured or kept in a log file that a failure names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import uv

from builder.errors import BuildError, MissingToolError
from builder.index import make_uv_environment, mask_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What a build may see of the caller's environment: where programs and temporary
# files are, how the network and the package index are reached; nothing else, so
# that the same lock gives the same bits on every machine.
PASSED = frozenset({"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"})
PASSED_PREFIXES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
INDEX_PREFIXES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_CACHE_DIR",
    "NETRC",
)
# No step of a build takes this long, on a slow machine either; one that does waits for something
# that will not come, such as the output of a daemon that a setup.py left behind.
LIMIT_SECONDS = 2 * 3600.0
_FINDING_UV = threading.Lock()
Done = subprocess.CompletedProcess[bytes]

PACKAGE_OF = {
    "apt-ftparchive": "apt-utils",
    "dh": "debhelper",
    "dpkg-deb": "dpkg",
    "dpkg-shlibdeps": "dpkg-dev",
    "dpkg-source": "dpkg-dev",
    "gpg": "gnupg",
    "gpg-agent": "gnupg",
    "gpg-connect-agent": "gnupg",
    "gpgconf": "gnupg",
    "gpgv": "gpgv",
    "gcc": "gcc",
    "lintian": "lintian",
    "patch": "patch",
    "pkg-config": "pkg-config",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "visudo": "sudo",
    "xz": "xz-utils",
    "zstd": "zstd",
}


def restart_in_utf8() -> None:
    """Restart this process in Python's UTF-8 mode (PEP 540) if the locale is not UTF-8.

    Names in archives are UTF-8. With a file system encoding taken from another locale they
    would become different bytes, and so would the packages.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8":
        return
    if os.environ.get("PYTHONUTF8") != "1":  # else Python was told to ignore it
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def find_uv() -> str:
    """Return the path of uv.

    Finding it reads sysconfig, which fills its table without a lock: a second thread may
    see half of it.
    """
    with _FINDING_UV:
        return uv.find_uv_bin()


def make_environment(
    extra: Mapping[str, str] | None = None, *, index: bool = False
) -> dict[str, str]:
    """Return the environment a child gets: the allow-list, fixed locale and zone, then `extra`.

    `index` lets the package index client's own settings through.
    """
    prefixes = PASSED_PREFIXES + (INDEX_PREFIXES if index else ())
    env = {k: v for k, v in os.environ.items() if k in PASSED or k.startswith(prefixes)}
    if index:
        env |= make_uv_environment()
    return {**env, "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", **(extra or {})}


def find(tool: str) -> str:
    """Return the path of `tool`; MissingToolError names the Debian package that has it."""
    path = shutil.which(tool)
    if path is None:
        package = PACKAGE_OF.get(tool, tool)
        raise MissingToolError(f"{tool} is not installed", hint=f"apt-get install {package}")
    return path


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    index: bool = False,
    input_bytes: bytes | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run `argv` and return the result; stdout and stderr are captured, or appended to `log`.

    Raises BuildError with the last lines of the output when it exits non-zero and
    `check` is set, and when it does not end (LIMIT_SECONDS). A caller that can say more
    catches it and raises its own error.
    """
    words = [find(str(argv[0])), *(str(a) for a in argv[1:])]
    hint = f"full log: {log}" if log else ""
    options: dict[str, Any] = {"cwd": cwd, "env": make_environment(env, index=index)}
    if input_bytes is None:
        options["stdin"] = subprocess.DEVNULL
    else:
        options["input"] = input_bytes
    try:
        done = _run(words, log, options)
    except subprocess.TimeoutExpired as error:
        message = f"{argv[0]} did not end within {LIMIT_SECONDS / 3600:g} hours and was stopped"
        raise BuildError(message, details=[message], hint=hint, log=log) from error
    if check and done.returncode != 0:
        raise BuildError(
            f"{argv[0]} failed with status {done.returncode}",
            details=[mask_secrets(line) for line in read_tail(done, log)]
            if index
            else read_tail(done, log),
            hint=hint,
            log=log,
        )
    return done


def _run(words: list[str], log: Path | None, options: dict[str, Any]) -> Done:
    """Run a command to its end; TimeoutExpired once it is killed for taking too long."""
    options = {"timeout": LIMIT_SECONDS, **options}
    if log is None:
        return subprocess.run(words, check=False, capture_output=True, **options)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(("$ " + " ".join(words) + "\n").encode())
        out.flush()
        return subprocess.run(words, check=False, stdout=out, stderr=out, **options)


def read_tail(
    done: subprocess.CompletedProcess[bytes], log: Path | None, lines: int = 15
) -> list[str]:
    """Return the last lines of a process's output."""
    raw = log.read_bytes() if log else (done.stdout or b"") + (done.stderr or b"")
    return raw.decode(errors="replace").rstrip().splitlines()[-lines:]
