"""OpenStack's own tests, Tempest, run against a cloud on nodes, from beside its bridges.

Tempest comes from the package index into a virtual environment of its own, at the release
tempest/expected.toml names for the series and the versions the series' lock has. What it may skip
and what fails through no fault of ours is in the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import images
from harness import GATEWAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloud import Cloud
    from repository import Repository

HERE = Path(__file__).parent / "tempest"
CHECKOUT = Path(__file__).resolve().parents[2]
EXPECTED = HERE / "expected.toml"
CLASS = re.compile(r"(?:setUp|tearDown)Class \((\S+)\)")
PASSED = "success"
LISTED = "exists"  # what the stream says of each test before any has run
MARKS = re.compile(r"(<!-- tempest -->\n)(.*?)(<!-- /tempest -->)", re.DOTALL)
PACKAGES = {
    "keystone": "keystone",
    "glance": "glance-common",
    "placement": "placement-common",
    "nova": "nova-common",
    "neutron": "neutron-common",
    "cinder": "cinder-common",
}
# glance fetches one by http.
SERVE_AN_IMAGE = """
install -d /srv/images
qemu-img convert -O qcow2 /root/guest/server /srv/images/server.qcow2
systemd-run --quiet --unit=images python3 -m http.server 80 --directory /srv/images
"""
CONFIGURATION = """\
[DEFAULT]
log_file = tempest.log
[oslo_concurrency]
lock_path = locks
[auth]
admin_username = admin
admin_password = {password}
admin_project_name = admin
admin_domain_name = Default
tempest_roles = member
[identity]
uri_v3 = {auth_url}
auth_version = v3
region = RegionOne
{authorities}
[identity-feature-enabled]
application_credentials = true
access_rules = true
[service_available]
swift = false
horizon = false
[compute]
image_ref = {image}
image_ref_alt = {image_alt}
flavor_ref = {flavor}
flavor_ref_alt = {flavor_alt}
min_compute_nodes = 2
max_microversion = latest
[compute-feature-enabled]
resize = true
attach_encrypted_volume = false
[image]
http_image = {http_image}
http_qcow2_image = http://controller/server.qcow2
[image-feature-enabled]
import_image = true
os_glance_reserved = true
[network]
public_network_id = {public}
floating_network_name = provider
project_network_cidr = 172.20.0.0/16
[network-feature-enabled]
ipv6_subnet_attributes = true
api_extensions = {extensions}
[validation]
run_validation = false
ssh_timeout = 20
[volume]
catalog_type = volumev3
storage_protocol = nfs
max_microversion = latest
[volume-feature-enabled]
backup = false
snapshot = false
clone = false
"""


@dataclass(frozen=True)
class Result:
    """How a test ended; `said` is why it was skipped, or its traceback."""

    test: str
    status: str
    seconds: float
    said: str

    @property
    def area(self) -> str:
        return re.sub(r"^tempest\.(?:serial_tests\.)?(?:api\.)?", "", self.test).split(".")[0]


@dataclass(frozen=True)
class Expected:
    """tempest/expected.toml."""

    versions: dict[str, str]
    areas: dict[str, str]
    ci: dict[str, object]
    skip: tuple[dict[str, str], ...] = ()
    fault: tuple[dict[str, str], ...] = ()

    @classmethod
    def read(cls, path: Path = EXPECTED) -> Expected:
        return cls(**tomllib.loads(path.read_text()))

    def reason(self, result: Result) -> str | None:
        """Return the reason an entry gives for a result that is no success, or None."""
        for entry in self.skip if result.status == "skip" else self.fault:
            if self._holds(entry, result):
                return entry["reason"]
        return None

    def _holds(self, entry: dict[str, str], result: Result) -> bool:
        return bool(
            re.search(entry.get("test", ""), result.test)
            and re.search(entry.get("said", ""), result.said)
        )

    def unexpected(self, results: Iterable[Result]) -> list[Result]:
        """Return those of the results that are nobody's known fault, failures first."""
        bad = [r for r in results if r.status != PASSED and self.reason(r) is None]
        return sorted(bad, key=lambda r: (r.status == "skip", r.test))

    def unused(self, results: Iterable[Result]) -> list[dict[str, str]]:
        """Return the entries that hold for no result: they are out of date."""
        bad = [r for r in results if r.status != PASSED]
        skips = [e for e in self.skip if not any(
            r.status == "skip" and self._holds(e, r) for r in bad)]  # fmt: skip
        faults = [e for e in self.fault if not any(
            r.status != "skip" and self._holds(e, r) for r in bad)]  # fmt: skip
        return skips + faults


class Tempest:
    """An installed Tempest with a workspace for one cloud."""

    def __init__(self, cloud: Cloud, repository: Repository, place: Path) -> None:
        self.cloud = cloud
        self.repository = repository
        self.expected = Expected.read()
        self.version = self.expected.versions[repository.series]
        self.bin = _install(repository, self.version) / "bin"
        self.place = place / "workspace"
        self.hosts = place / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n10.0.0.11 controller\n10.0.0.31 compute1\n")
        cloud.controller.run(SERVE_AN_IMAGE)
        self._run(f"tempest init {self.place}", at=place)
        configuration = self.place / "etc/tempest.conf"
        configuration.write_text(self._configuration(place))

    def _run(self, command: str, at: Path | None = None, stdin: bytes = b"") -> bytes:
        """Run shell text with Tempest on the path, where the nodes are reached by their names."""
        inside = (
            f"mount --bind {self.hosts} /etc/hosts; cd {at or self.place}; umask 077;"
            f" exec env -i HOME={self.hosts.parent} LANG=C.UTF-8 PATH={self.bin}:/usr/bin:/bin"
            f" sh -c {shlex.quote(command)}"
        )
        argv = ["ip", "netns", "exec", self.cloud.lab.tag, "sh", "-ec", inside]
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
        # Of a run in which tests fail the stream says so, not the status alone.
        if done.returncode not in (0, 1) or (done.returncode and not done.stdout):
            said = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
            raise AssertionError(f"status {done.returncode} of: {command}\n{said}")
        return done.stdout

    def _configuration(self, place: Path) -> str:
        cloud = self.cloud
        environment = dict(
            line.split("=", 1)
            for line in cloud.controller.out(". /root/admin-openrc; env | grep ^OS_").splitlines()
        )
        authorities = ""
        if "OS_CACERT" in environment:
            file = place / "authorities.pem"
            file.write_text(cloud.controller.read(environment["OS_CACERT"]))
            authorities = f"ca_certificates_file = {file}"
        image = cloud.json("image show server")["id"]
        flavors = {f["Name"]: f["ID"] for f in cloud.json("flavor list --all")}
        extensions = [e["Alias"] for e in cloud.json("extension list --network")]
        return CONFIGURATION.format(
            password=environment["OS_PASSWORD"],
            auth_url=environment["OS_AUTH_URL"],
            authorities=authorities,
            image=image,
            image_alt=image,
            flavor=flavors["m1.nano"],
            flavor_alt=flavors["m1.micro"],
            public=cloud.json("network show provider")["id"],
            extensions=",".join(sorted(extensions)),
            http_image=f"http://{GATEWAY}/README.md",
        )

    @cached_property
    def _smoke(self) -> list[str]:
        return _tests(self._run("tempest run --smoke --list-tests").decode())

    @cached_property
    def _all(self) -> list[str]:
        return _tests(self._run("tempest run --list-tests").decode())

    def area(self, name: str) -> list[str]:
        """Return the tests of an area of expected.toml."""
        pattern = self.expected.areas[name]
        if pattern == "smoke":
            return self._smoke
        return [t for t in self._all if re.search(pattern, t)]

    def whole(self) -> list[str]:
        """Return the tests of all areas."""
        return sorted({t for name in self.expected.areas for t in self.area(name)})

    def for_ci(self) -> list[str]:
        """Return the tests there is always time for."""
        pattern = str(self.expected.ci["tests"])
        chosen = {t for t in self.whole() if re.search(pattern, t)}
        chosen |= set(self._smoke if self.expected.ci["smoke"] else ())
        # one that fails in this cloud shows nothing, and takes its time
        faults = [entry["test"] for entry in self.expected.fault]
        return sorted(t for t in chosen if not any(re.search(fault, t) for fault in faults))

    def run(self, tests: list[str], workers: int = 2) -> list[Result]:
        """Run tests by their names; each has a result, that of its class where it had no turn."""
        chosen = self.place / "tests"
        chosen.write_text("".join(f"{t}\n" for t in tests))
        stream = self._run(f"tempest run --load-list {chosen} --concurrency {workers} --subunit")
        (self.place / "results.subunit").write_bytes(stream)
        read = self._run(f"python {HERE / 'read_results.py'}", stdin=stream).decode()
        rows = [Result(**json.loads(line)) for line in read.splitlines()]
        assert rows, "Tempest ran no test"
        return of_tests(rows, tests)


def of_tests(rows: list[Result], tests: list[str]) -> list[Result]:
    """Return a result for each of the tests, and what else failed (a class's end, a module)."""
    rows = [r for r in rows if r.status != LISTED]
    classes = {m[1]: r for r in rows if (m := CLASS.fullmatch(r.test))}
    own = {_name(r.test): r for r in rows if not CLASS.fullmatch(r.test)}
    found = [replace(r, test=name) for name, r in own.items()]
    for name in {_name(t) for t in tests} - own.keys():
        of_class = classes.get(name.rpartition(".")[0])
        lost = Result(name, "fail", 0.0, "it has no result")
        found.append(replace(of_class, test=name, seconds=0.0) if of_class else lost)
    ends = [r for r in classes.values() if r.test.startswith("tearDown") and r.status == "fail"]
    return sorted(found, key=lambda r: r.test) + ends


def _name(test: str) -> str:
    """Return a test's name without its id and attributes, which follow in brackets."""
    return test.partition("[")[0]


def _tests(listing: str) -> list[str]:
    return [line for line in listing.splitlines() if line.startswith("tempest.")]


def _install(repository: Repository, version: str) -> Path:
    """Return the virtual environment with Tempest, made once for a lock."""
    name = f"{repository.series}-{repository.target}.json"
    lock = json.loads((CHECKOUT / "projects/locks" / name).read_text())
    pins = "".join(f"{d['name']}=={d['version']}\n" for d in lock["distributions"])
    key = hashlib.sha256(f"{sys.version}\n{version}\n{pins}".encode()).hexdigest()[:16]
    made = images.cache_dir() / f"tempest-{key}"
    if (made / "complete").exists():
        return made
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    constraints = made / "constraints.txt"
    constraints.write_text(pins)
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    argv = [made / "bin/pip", "install", "--quiet", "--constraint", constraints]
    subprocess.run([*argv, f"tempest=={version}"], check=True)
    (made / "complete").touch()
    return made


def unexpected(tempest: Tempest, results: list[Result]) -> str:
    """Return what no entry of expected.toml accounts for, each test with what it said."""
    found = tempest.expected.unexpected(results)
    return "\n\n".join(f"{r.status} {r.test}\n{r.said[-3000:]}" for r in found)


def record(tempest: Tempest, results: list[Result], seconds: float) -> None:
    """Write how many tests passed, by area, where TEMPEST_TABLE says."""
    text = table(tempest, results, seconds)
    print(text, end="")
    path = os.environ.get("TEMPEST_TABLE")
    if path:
        document = Path(path).read_text()
        Path(path).write_text(with_table(document, text))


def table(tempest: Tempest, results: list[Result], seconds: float) -> str:
    """Return a paragraph and a table of results, in Markdown."""
    repository = tempest.repository
    versions = ", ".join(
        f"{name} {_upstream(repository.stanzas[package]['Version'])}"
        for name, package in PACKAGES.items()
    )
    rows = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {repository.series} on {repository.target}"
        f" ({versions}), Tempest {tempest.version}, {seconds / 60:.0f} minutes.\n",
        "| area | passed | skipped | known faults of others | failed |",
        "|---|---|---|---|---|",
    ]
    for area in tempest.expected.areas:
        chosen = {_name(t) for t in tempest.area(area)}
        found = Counter(_kind(tempest.expected, r) for r in results if r.test in chosen)
        cells = " | ".join(str(found[k]) for k in ("passed", "skipped", "known", "failed"))
        rows.append(f"| {area} | {cells} |")
    return "\n".join(rows) + "\n"


def _kind(expected: Expected, result: Result) -> str:
    if result.status == PASSED:
        return "passed"
    if result.status == "skip":
        return "skipped"
    return "known" if expected.reason(result) else "failed"


def _upstream(version: str) -> str:
    """Return the upstream part of a Debian version."""
    return version.partition(":")[2].rpartition("-")[0] or version.rpartition("-")[0]


def with_table(document: str, text: str) -> str:
    """Return a document with `text` between its marks."""
    match = MARKS.search(document)
    if not match:
        raise ValueError("nothing between <!-- tempest --> and <!-- /tempest -->")
    return document[: match.start(2)] + text + document[match.end(2) :]
