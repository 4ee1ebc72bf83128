"""Throw-away keys that sign tarballs."""

import re
import subprocess
from pathlib import Path


class Key:
    """A throw-away key, which signs; it is made at `time` and good until `until`."""

    def __init__(self, home, time="", until="never"):
        self.home = home
        home.mkdir(mode=0o700)
        when = ["--faked-system-time", time] if time else []
        make = ["--passphrase", "", "--quick-gen-key", "release", "ed25519", "sign", until]
        self.gpg(*when, *make)
        listing = self.gpg("--list-keys", "--with-colons").decode()
        self.fingerprint = re.search(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[1].lower()

    def gpg(self, *words):
        argv = ["gpg", "--homedir", self.home, "--batch", "--pinentry-mode", "loopback", *words]
        return subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout

    def public(self, path, *options):
        path.write_bytes(self.gpg(*options, "--export", self.fingerprint))
        return path

    def sign(self, path, *options):
        signature = Path(f"{path}.asc")
        words = ["--yes", "--armor", *options, "--output", signature, "--detach-sign", path]
        self.gpg(*words)
        return signature

    def stop(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=True)
