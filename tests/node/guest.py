"""What the servers of the tested cloud boot: Debian's cloud kernel, and a small system in memory.

The kernel and busybox are Debian's packages, fetched by the host's own apt. All that
runs in the guest is in the initial RAM disk; the root disk has one line of text, which
the guest prints, so that a wrong or empty disk shows. What it is good for:

- it configures its network by the config drive's static addresses, else by DHCP (a port
  that comes later as well), and takes the metadata service's word for its name;
- it says on the serial console, which is nova's console log: `guest config drive: NAME`,
  `guest disk: TEXT`, `guest address: LINK ADDRESS HOW`, `guest ready: ADDRESS`,
  `guest metadata: NAME`;
- it serves / (host name and addresses), and under /cgi-bin: write?TEXT and read (first
  sector of the first attached volume), disks, uptime, metadata;
- it powers off when the power button is pressed.

    python3 tests/node/guest.py    make the image, print where its files are
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import lzma
import re
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import images

if TYPE_CHECKING:
    from collections.abc import Iterable

KERNEL_PACKAGE = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE = "busybox-static"
DISK_TEXT = "root disk of the test guest"
DISK_BYTES = 1 << 20
# In the order of need: disks, network, power button, then the slow search for a CD-ROM.
MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "button",
    "evdev",
    "sr_mod",
    "isofs",
    "ata_piix",
    "vfat",
    "nls_cp437",
    "nls_ascii",
)
# A userspace Open vSwitch passes on the packets of a guest as they are, with the
# checksums and the segments a kernel's data path would have made of them left undone.
OPTIONS = {"virtio_net": "csum=0 gso=0"}

INIT = r"""#!/bin/sh
# The kernel's first process; ends as busybox's init, which keeps the daemons running.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
. /lib/guest
say "guest init: $(cut -d ' ' -f 1 /proc/uptime) s after the kernel"
while read -r module options; do
    insmod "/lib/modules/$module" $options || say "guest module: $module failed"
done </lib/modules/order
ip link set lo up
hostname guest
if drive=$(findfs LABEL=config-2 2>/dev/null); then
    echo "$drive" >/run/drive
    mkdir /run/config
    mount -r -t iso9660 "$drive" /run/config 2>/dev/null || mount -r -t vfat "$drive" /run/config
    from=/run/config/openstack/latest
    awk -f /lib/json.awk $from/meta_data.json >/run/meta_data
    awk -f /lib/json.awk $from/network_data.json >/run/network_data
    hostname "$(value hostname /run/meta_data)"
    say "guest config drive: $(value name /run/meta_data)"
else
    say "guest config drive: none"
fi
say "guest disk: $(head -n 1 /dev/vda)"
page
exec init
"""

INITTAB = """\
::respawn:/bin/httpd -f -p 80 -h /www
::respawn:/bin/acpid -f -l /run/acpid.log
::respawn:/bin/network
"""

# Sourced by the other scripts. Whatever the kernel's own console is, what a person
# looks for is on the serial line; each line is one write, as several processes speak.
LIBRARY = r"""
exec </dev/null 2>/dev/ttyS0
say() { echo "$*" >/dev/ttyS0; }
value() { sed -n "s/^$1=//p" "$2"; }
page() {
    addresses=$(cat /run/address.* 2>/dev/null)
    name=$(hostname)
    echo "<!doctype html><title>$name</title><h1>$name</h1><p>$addresses</p>" >/run/page.$$
    mv /run/page.$$ /www/index.html
}
# ready LINK ADDRESS HOW
ready() {
    [ "$(cat "/run/address.$1" 2>/dev/null)" = "$2" ] && return
    echo "$2" >"/run/address.$1"
    page
    say "guest address: $1 $2 $3"
    say "guest ready: $2"
}
# busybox's own time limit (wget -T) ends this static build with a segmentation fault.
metadata() { timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json; }
volume() {
    for disk in /dev/vd[b-z]; do
        if [ -b "$disk" ] && [ "$disk" != "$(cat /run/drive 2>/dev/null)" ]; then
            echo "$disk"
            return
        fi
    done
    return 1
}
"""

# Links may be plugged in while the guest runs, and out again.
NETWORK = r"""#!/bin/sh
. /lib/guest
static() {
    [ -f /run/network_data ] && awk -v "mac=$1" -f /lib/static.awk /run/network_data
}
by_dhcp() {
    # One transaction lasts a minute: an answer that is late is still an answer.
    while [ -e "/sys/class/net/$1" ]; do
        udhcpc -i "$1" -f -t 60 -T 1 -A 1 -O mtu -O staticroutes -s /bin/lease >/dev/null 2>&1
        sleep 1
    done
}
while :; do
    for path in /sys/class/net/*; do
        link=${path##*/}
        [ "$link" = lo ] || [ -e "/run/link.$link" ] && continue
        : >"/run/link.$link"
        ip link set "$link" up
        found=$(static "$(cat "$path/address")")
        if [ -z "$found" ]; then
            by_dhcp "$link" &
            continue
        fi
        echo "$found" | while read -r what one two; do
            case $what in
            mtu) ip link set "$link" mtu "$one" ;;
            address) ip addr add "$one" dev "$link" && ready "$link" "${one%/*}" static ;;
            route) ip route add "$one" via "$two" dev "$link" ;;
            esac
        done
    done
    for mark in /run/link.*; do
        link=${mark##*/link.}
        if [ -e "$mark" ] && [ ! -e "/sys/class/net/$link" ]; then
            rm -f "$mark" "/run/address.$link"
            page
        fi
    done
    sleep 1
done
"""

LEASE = r"""#!/bin/sh
# What udhcpc calls, with the lease in the environment (RFC 2132, RFC 3442).
. /lib/guest
name_from_metadata() {
    for attempt in $(seq 60); do
        if metadata >/run/answer 2>/run/failure; then
            awk -f /lib/json.awk /run/answer >/run/meta_data
            hostname "$(value hostname /run/meta_data)"
            page
            say "guest metadata: $(value name /run/meta_data)"
            return
        fi
        why=$(tail -n 1 /run/failure)
        say "guest metadata failed ($attempt): ${why:-no answer}"
        sleep 2
    done
}
case $1 in
deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    ip addr replace "$ip/$mask" dev "$interface"
    # RFC 3442: who gives static routes gives the default route among them.
    if [ -n "$staticroutes" ]; then
        set -- $1 $staticroutes
    elif [ -n "$router" ]; then
        set -- $1 0.0.0.0/0 ${router%% *}
    fi
    event=$1
    shift
    while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then
            ip route replace "$1" dev "$interface"
        else
            ip route replace "$1" via "$2" dev "$interface"
        fi
        shift 2
    done
    ready "$interface" "$ip" dhcp
    [ "$event" = renew ] || name_from_metadata &
    ;;
esac
"""

# Every scalar of a JSON text as PATH=VALUE, such as `networks.0.type=ipv4`.
JSON_AWK = r"""
{ text = text $0 " " }
END { sub(/^[ \t\r]+/, "", text); item("") }
function take(pattern,   token) {
    if (!match(text, "^" pattern)) {
        print "guest: not JSON: " substr(text, 1, 40) >"/dev/ttyS0"
        exit 1
    }
    token = substr(text, 1, RLENGTH)
    text = substr(text, RLENGTH + 1)
    sub(/^[ \t\r]+/, "", text)
    return token
}
function word(   token) {
    token = take("\"([^\"\\\\]|\\\\.)*\"")
    token = substr(token, 2, length(token) - 2)
    gsub(/\\"/, "\"", token)
    gsub(/\\\//, "/", token)
    return token
}
function item(path,   first, name, n, dot) {
    first = substr(text, 1, 1)
    dot = path == "" ? "" : path "."
    if (first == "{" || first == "[") {
        take("[[{]")
        for (n = 0; text !~ /^[]}]/; n++) {
            if (n) take(",")
            name = n
            if (first == "{") { name = word(); take(":") }
            item(dot name)
        }
        take("[]}]")
    } else if (first == "\"") print path "=" word()
    else print path "=" take("[-+.0-9a-zA-Z]+")
}
"""

# Of nova's network_data.json, what the link with the address `mac` gets if it is static.
STATIC_AWK = r"""
{ key = $0; sub(/=.*/, "", key); is[key] = substr($0, length(key) + 2) }
END {
    for (n = 0; ("links." n ".id") in is; n++)
        if (tolower(is["links." n ".ethernet_mac_address"]) == mac) {
            link = is["links." n ".id"]
            mtu = is["links." n ".mtu"]
        }
    for (n = 0; ("networks." n ".id") in is; n++) {
        at = "networks." n "."
        if (link == "" || is[at "link"] != link || is[at "type"] != "ipv4") continue
        if (mtu + 0) print "mtu", mtu
        print "address", is[at "ip_address"] "/" is[at "netmask"]
        for (r = 0; (at "routes." r ".gateway") in is; r++)
            print "route", is[at "routes." r ".network"] "/" is[at "routes." r ".netmask"], \
                is[at "routes." r ".gateway"]
    }
}
"""

POWER_BUTTON = r"""#!/bin/sh
. /lib/guest
say "guest powers off"
sync
poweroff -f
"""

CGI_HEAD = r"""#!/bin/sh
. /lib/guest
reply() { printf 'Status: %s\r\nContent-Type: text/plain\r\n\r\n' "$1"; }
disk=$(volume)
first_sector() { blockdev --flushbufs "$disk" && head -c 512 "$disk" | tr -d '\0'; }
"""
CGI = {
    "disks": "reply '200 OK'\ncat /proc/partitions\n",
    "uptime": "reply '200 OK'\ncat /proc/uptime\n",
    "read": r"""
[ -n "$disk" ] || { reply '404 Not Found'; echo 'no volume'; exit; }
reply '200 OK'
first_sector
""",
    "write": r"""
[ -n "$disk" ] || { reply '404 Not Found'; echo 'no volume'; exit; }
text=$(httpd -d "$QUERY_STRING")
sector() { { echo "$text"; cat /dev/zero; } | head -c 512; }
if ! sector | dd of="$disk" bs=512 conv=fsync 2>/run/dd; then
    reply '500 Internal Server Error'
    cat /run/dd
    exit
fi
reply '200 OK'
first_sector
""",
    "metadata": "reply '200 OK'\nmetadata 2>&1\n",
}


@dataclass(frozen=True, slots=True)
class Guest:
    """Three files: a kernel (aki), a RAM disk (ari) and a raw disk for glance."""

    kernel: Path
    ramdisk: Path
    disk: Path


class _Apt:
    """The host's apt, without a change to the host."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.options = ["-q", "-o", "APT::Sandbox::User=root"]

    def __call__(self, *argv: str) -> str:
        """Return what `argv` prints; lists that miss or are of yesterday are fetched once."""
        try:
            return self._run(*argv)
        except subprocess.CalledProcessError:
            if any("Lists" in option for option in self.options):
                raise
        lists = self.scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        self.options += ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={lists}"]
        self._run("apt-get", "update")
        return self._run(*argv)

    def _run(self, tool: str, *argv: str) -> str:
        done = subprocess.run(
            [tool, *self.options, *argv],
            cwd=self.scratch, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return done.stdout


def _wanted(apt: _Apt) -> dict[str, str]:
    """Return the file name of each .deb needed, and its checksum as apt knows it."""
    shown = apt("apt-cache", "show", "--no-all-versions", KERNEL_PACKAGE)
    kernel = re.search(r"^Depends:.*?\b(linux-image-\d[^\s,]*)", shown, re.MULTILINE)
    if kernel is None:
        raise RuntimeError(f"{KERNEL_PACKAGE} depends on no kernel")
    lines = apt("apt-get", "download", "--print-uris", kernel[1], BUSYBOX_PACKAGE).splitlines()
    return {line.split()[1]: line.split()[3] for line in lines if line.startswith("'")}


def _unpacked(apt: _Apt, debs: Iterable[str]) -> Path:
    """Return a directory with the files of `debs`."""
    root = apt.scratch / "root"
    names = [deb.partition("_")[0] for deb in debs]
    apt("apt-get", "download", *names)
    for deb in apt.scratch.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    return root


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _modules(root: Path) -> dict[str, bytes]:
    """Return MODULES and what they need, by name, in an order in which they load."""
    paths = {_module_name(path): path for path in sorted(root.glob("lib/modules/**/*.ko*"))}
    builtin = next(root.glob("lib/modules/*/modules.builtin")).read_text()
    built_in = {_module_name(Path(line)) for line in builtin.splitlines()}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name in built_in:
            return
        if name not in paths:
            raise RuntimeError(f"Debian's cloud kernel has no module {name}")
        content = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            content = lzma.decompress(content)
        # modinfo(8): a list of NUL-ended KEY=VALUE inside the file.
        needs = re.search(rb"\0depends=([^\0]*)\0", content)
        for need in needs[1].decode().split(",") if needs else []:
            if need:
                add(need.replace("-", "_"))
        ordered[name] = content

    for name in MODULES:
        add(name)
    return ordered


def _newc(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Return a cpio archive (newc, as the kernel reads it) of path -> (mode, content)."""
    out = io.BytesIO()
    entries = [*sorted(files.items()), ("TRAILER!!!", (0, b""))]
    for number, (name, (mode, content)) in enumerate(entries, 1):
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, 4 device numbers, name's size, checksum
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(content + b"\0" * (-len(content) % 4))
    return out.getvalue()


def _tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return the RAM disk's files: path -> (mode, content)."""
    modules = _modules(root)
    program = {
        "init": INIT,
        "bin/network": NETWORK,
        "bin/lease": LEASE,
        "etc/acpi/PWRF/00000080": POWER_BUTTON,
        **{f"www/cgi-bin/{name}": CGI_HEAD + text for name, text in CGI.items()},
    }
    data = {
        "etc/inittab": INITTAB,
        "lib/guest": LIBRARY,
        "lib/json.awk": JSON_AWK,
        "lib/static.awk": STATIC_AWK,
        "lib/modules/order": "".join(f"{n}.ko {OPTIONS.get(n, '')}\n" for n in modules),
    }
    busybox = root / "bin/busybox"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    directories = (
        "bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/modules",
        "proc", "run", "sys", "tmp", "www", "www/cgi-bin",
    )  # fmt: skip
    return {
        **dict.fromkeys(directories, (stat.S_IFDIR | 0o755, b"")),
        **{f"bin/{a}": (stat.S_IFLNK | 0o777, b"busybox") for a in applets.stdout.split()},
        **{name: (stat.S_IFREG | 0o755, text.encode()) for name, text in program.items()},
        **{name: (stat.S_IFREG | 0o644, text.encode()) for name, text in data.items()},
        **{f"lib/modules/{n}.ko": (stat.S_IFREG | 0o644, c) for n, c in modules.items()},
        "bin/busybox": (stat.S_IFREG | 0o755, busybox.read_bytes()),
    }


def _make(apt: _Apt, debs: Iterable[str], target: Path) -> None:
    root = _unpacked(apt, debs)
    target.mkdir()
    (kernel,) = root.glob("boot/vmlinuz-*")
    (target / "kernel").write_bytes(kernel.read_bytes())
    (target / "ramdisk").write_bytes(gzip.compress(_newc(_tree(root)), mtime=0))
    (target / "disk").write_bytes(f"{DISK_TEXT}\n".encode().ljust(DISK_BYTES, b"\0"))


def build(directory: Path | None = None) -> Guest:
    """Return the guest, made on first use in `directory` (else the tests' cache)."""
    directory = directory or images.cache_dir() / "guests"
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / "lock").open("w") as lock,
        tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        apt = _Apt(Path(scratch))
        debs = _wanted(apt)
        # This very file is the recipe.
        identity = repr(sorted(debs.items())) + Path(__file__).read_text()
        made = directory / hashlib.sha256(identity.encode()).hexdigest()[:12]
        if not made.is_dir():
            _make(apt, debs, Path(scratch) / "made")
            (Path(scratch) / "made").rename(made)
    return Guest(made / "kernel", made / "ramdisk", made / "disk")


if __name__ == "__main__":
    guest = build()
    sys.stdout.write("".join(f"{path}\n" for path in (guest.kernel, guest.ramdisk, guest.disk)))
