"""What the tests of the stages share: wheels and sdists made here, and an index that serves them.

Nothing here comes from a network: a wheel is a zip archive (PEP 427), an sdist a tar
archive (PEP 625), and the index a server on the loopback interface (PEP 503, PEP 691).
"""

import base64
import contextlib
import gzip
import hashlib
import importlib.metadata
import io
import json
import re
import subprocess
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from packaging.utils import canonicalize_name
from web import Server, running

from builder.model.values import Artifact, Distribution, Lock
from builder.model.values import Wheel as ReadyWheel

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = REPOSITORY / "debian-templates"
# What an installer adds to a .dist-info.
INSTALLED = ("/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json", "/uv_cache.json")
MADE = (2020, 1, 2, 3, 4, 6)


def names(directory):
    """Return what is in a directory, hidden names too."""
    return sorted(p.name for p in directory.iterdir())


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(directory, name, version="1.0", files=(), *, tag="py3-none-any", **metadata):
    """Write a wheel and return its path.

    `files` maps paths in the wheel to text or bytes (paths of `{info}/…` go into its
    dist-info, of `{data}/…` into its .data). `metadata` are further fields of METADATA;
    `scripts` are console scripts, `entry_points` the text of that file.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info, data = f"{stem}.dist-info", f"{stem}.data"
    scripts = metadata.pop("scripts", {})
    entry_points = metadata.pop("entry_points", "")
    if scripts:
        entry_points += "[console_scripts]\n" + "".join(f"{k} = {v}\n" for k, v in scripts.items())
    rows = {k.format(info=info, data=data): v for k, v in dict(files).items()}
    rows[f"{info}/METADATA"] = metadata_text(name, version, **metadata)
    pure = "true" if tag.endswith("-any") else "false"
    rows[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    if entry_points:
        rows[f"{info}/entry_points.txt"] = entry_points
    path = Path(directory) / f"{stem}-{tag}.whl"
    return write_wheel(path, info, rows)


def write_wheel(path, info, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    record = []
    # stored, so that no version of zlib changes a checksum of the golden files
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in sorted(rows.items()):
            raw = content.encode() if isinstance(content, str) else content
            digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            record.append(f"{member},sha256={digest},{len(raw)}\n")
            archive.writestr(zipfile.ZipInfo(member, MADE), raw)
        record.append(f"{info}/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", MADE), "".join(record))
    return path


def metadata_text(name, version, **fields):
    """Return METADATA; a list is a field that is given several times, `body` the description."""
    body = fields.pop("body", "")
    lines = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}"]
    for field, value in fields.items():
        label = field.replace("_", "-").title()
        lines += [f"{label}: {v}" for v in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines) + "\n" + (f"\n{body}\n" if body else "")


def sdist(directory, name, version="1.0", files=(), **metadata):
    """Write an sdist (PKG-INFO and `files` below its one top directory); return its path."""
    stem = f"{name.replace('-', '_')}-{version}"
    rows = {"PKG-INFO": metadata_text(name, version, **metadata), **dict(files)}
    members = {f"{stem}/{k}": v for k, v in rows.items()}
    return tarball(Path(directory) / f"{stem}.tar.gz", members)


def tarball(path, members, *extra):
    """Write a .tar.gz of text members, and of further `tarfile.TarInfo` as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in sorted(members.items()):
            raw = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(raw), 1577934246
            archive.addfile(entry, io.BytesIO(raw))
        for entry in extra:
            archive.addfile(entry, io.BytesIO(b"\0" * entry.size))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


def installed_wheel(directory, name):
    """Make a wheel again of a pure distribution that this Python has installed."""
    found = importlib.metadata.distribution(name)
    rows = {}
    for file in found.files:
        text = str(file)
        if text.startswith("..") or text.endswith((".pyc", *INSTALLED)):
            continue
        rows[text] = Path(file.locate()).read_bytes()
    (info,) = {k.split("/")[0] for k in rows if ".dist-info/" in k}
    stem = info.removesuffix(".dist-info")
    return write_wheel(Path(directory) / f"{stem}-py3-none-any.whl", info, rows)


def shared_object(directory, source, name, *options):
    """Compile C to a shared object and return its bytes; links the C library alone."""
    code, out = Path(directory) / "module.c", Path(directory) / name
    code.write_text(source)
    argv = ["gcc", "-shared", "-fPIC", "-g", "-o", str(out), str(code), *options]
    subprocess.run(argv, check=True, timeout=60)
    return out.read_bytes()


def artifact(path):
    data = path.read_bytes()
    return Artifact(path.name, sha256(data), len(data))


def distribution(name, version="1.0", requires=(), *, kind="library", extras=(), **more):
    """Return a locked distribution; `path` is its file, else one is made up."""
    path = more.pop("path", None)
    ending = ".tar.gz" if kind == "service" else "-py3-none-any.whl"
    file = f"{name.replace('-', '_')}-{version}{ending}"
    made_up = Artifact(file, sha256(name.encode()), 1)
    return Distribution(
        name=name,
        version=version,
        kind=kind,
        requires=tuple(requires),
        extras=dict(extras),
        artifacts=(artifact(path) if path else made_up,),
        reason=more.pop("reason", ()),
        **more,
    )


def lock_of(*distributions, build=(), inputs=()):
    rows = sorted(distributions, key=lambda d: canonicalize_name(d.name))
    return Lock("2026.1", "bookworm", "3.11.2", dict(inputs), tuple(rows), tuple(build))


def ready(row, path, *, built=False, source=None):
    """Return the wheel of a locked distribution, ready to be packaged."""
    return ReadyWheel(row, path, sha256(path.read_bytes()), built, source)


class Index:
    """A package index on 127.0.0.1: `add` files, and have requests fail as a test wants.

    `account` is the `user:password` it asks for, `sent` what it was sent; `elsewhere` is where
    its pages say that the files are, `uploaded` the day of each, where it matters. `answers` maps a
    path to a list of functions of the request handler, used up one a request before the file is
    served; `requests` are the paths that were asked for.
    """

    def __init__(self, json_api=True):
        self.files, self.answers, self.requests = {}, {}, []
        self.account, self.elsewhere, self.sent = "", "", []
        self.uploaded = {}
        self.json_api = json_api
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                index.serve(self)

            def do_HEAD(self):
                index.serve(self)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.index = self
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.base}/simple"

    def add(self, *paths):
        """Serve files, below the project that their names say."""
        for path in paths:
            self.files[path.name] = path.read_bytes()

    def serve(self, handler):
        path = handler.path.split("?")[0]
        self.requests.append(path)
        self.sent.append(handler.headers.get("Authorization", ""))
        wanted = base64.b64encode(self.account.encode()).decode()
        if self.account and self.sent[-1] != f"Basic {wanted}":
            refuse(handler)
        elif self.answers.get(path):
            self.answers[path].pop(0)(handler)
        elif path.startswith("/simple/"):
            self.page(handler, path.removeprefix("/simple/").strip("/"))
        else:
            self.send_file(handler)

    def send_file(self, handler):
        name = handler.path.rsplit("/", 1)[1]
        if name in self.files:
            send(handler, 200, self.files[name], "application/octet-stream")
        else:
            send(handler, 404, b"no such file")

    def page(self, handler, project):
        names = [n for n in self.files if _project(n) == project]
        if not names:
            send(handler, 404, b"no such project")
        elif self.json_api:
            kind = "application/vnd.pypi.simple.v1+json"
            send(handler, 200, json.dumps(self.json_page(project, names)).encode(), kind)
        else:
            links = (f'<a href="/files/{n}#sha256={sha256(self.files[n])}">{n}</a>' for n in names)
            send(handler, 200, f"<html><body>{''.join(links)}</body></html>".encode(), "text/html")

    def json_page(self, project, names):
        rows = [
            {
                "filename": name,
                "url": f"{self.elsewhere or self.base}/files/{name}",
                "hashes": {"sha256": sha256(self.files[name])},
                "size": len(self.files[name]),
                "upload-time": f"{self.uploaded.get(name, '2020-01-02')}T03:04:05Z",
            }
            for name in names
        ]
        versions = sorted({re.split(r"-", n.removesuffix(".tar.gz"))[1] for n in names})
        meta = {"api-version": "1.1"}
        return {"meta": meta, "name": project, "files": rows, "versions": versions}


def _project(file):
    return canonicalize_name(file.split("-")[0])


def send(handler, status, body, kind="text/plain"):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)


def refuse(handler):
    handler.send_response(401)
    handler.send_header("WWW-Authenticate", 'Basic realm="packages"')
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def status(code):
    """Return an answer of that status."""
    return lambda handler: send(handler, code, b"so it is")


def body(data):
    """Return an answer of other bytes."""
    return lambda handler: send(handler, 200, data)


def cut_short(data, length):
    """Return an answer whose connection ends before all that was promised is sent."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


@contextlib.contextmanager
def serving(json_api=True):
    """Run an index for a block."""
    index = Index(json_api)
    with running(index.server):
        yield index


# A build backend (PEP 517) of the standard library alone: no test needs a real one.
BACKEND = """
import base64, email, hashlib, os, time, zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if Path("broken").exists() and Path(Path("broken").read_text()).exists():
        raise SystemExit("no compiler of Fortran")
    hold = Path(Path("hold").read_text()) if Path("hold").exists() else None
    if hold and hold.is_dir():
        (hold / "reached").touch()
    while hold and hold.is_dir():
        time.sleep(0.02)
    text = Path("PKG-INFO").read_text()
    message = email.message_from_string(text)
    stem = f"{message['Name'].replace('-', '_')}-{message['Version']}"
    info, rows = f"{stem}.dist-info", {}
    for path in sorted(Path(".").rglob("*.py")):
        rows[str(path)] = path.read_bytes()
    rows[f"{info}/METADATA"] = text.encode()
    rows[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    if Path("entry_points.txt").exists():
        rows[f"{info}/entry_points.txt"] = Path("entry_points.txt").read_bytes()
    lines = []
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for member, raw in sorted(rows.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            lines.append(f"{member},sha256={digest},{len(raw)}\\n")
            archive.writestr(zipfile.ZipInfo(member), raw)
        lines.append(f"{info}/RECORD,,\\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(lines))
    return name
"""
PYPROJECT = '[build-system]\nrequires = ["tinybackend>=1"]\nbuild-backend = "tinybackend"\n'


def backend(directory):
    """Write the wheel of that backend."""
    return wheel(directory, "tinybackend", "1.0", {"tinybackend.py": BACKEND})


def buildable(directory, name, version="1.0", files=(), **metadata):
    """Write an sdist that the backend builds; its metadata needs no build to be read."""
    rows = {"pyproject.toml": PYPROJECT, **dict(files)}
    return sdist(directory, name, version, rows, **metadata)
