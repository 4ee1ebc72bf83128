"""Lay out the binary packages of a service: debian/assemble.py PLAN WHEEL.

PLAN (JSON) says what goes where; `builder/debs/service/assembly.py` writes it. Generating a
sample configuration imports the service, which takes seconds, so one process of the tree's
Python (samples.py) generates them all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SAMPLES = Path("debian/samples")
# Files pip writes about a manual installation.
NOTES = ("INSTALLER", "REQUESTED", "direct_url.json")


def main(plan_file: str, wheel: str) -> None:
    """Lay out everything PLAN names."""
    plan = json.loads(Path(plan_file).read_text())
    code = plan["code"]
    # Where the tree is for this build, and on a node.
    tree = os.environ.get("OPENSTACK_TREE", "") + code["tree"]
    site = install_wheel(code, wheel, tree)
    generate_samples(plan["files"], site, tree)
    for directory in plan["directories"]:
        Path(directory).mkdir(parents=True, exist_ok=True)
    # Defaults that contain the location of the code get its location on a node.
    here = {str(site): code["site"], tree: code["tree"]}
    for file in plan["files"]:
        put_file(file, here)
    put_options(plan["options"], {str(site): "{site}", tree: "{tree}"})
    for link in plan["links"]:
        target = Path(link["path"])
        place = os.path.dirname("/" + link["path"].split("/", 2)[2])  # noqa: PTH120 - on a node
        if place == "/usr/bin":
            check_script(code, link["target"], tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Relative, as both are in the same top-level directory (policy 10.5).
        target.symlink_to(os.path.relpath(link["target"], place))
    # Running the code here left byte code.
    for cache in site.rglob("__pycache__"):
        shutil.rmtree(cache)
    for code_file in site.rglob("*.pyc"):
        code_file.unlink()


def install_wheel(code: dict, wheel: str, tree: str) -> Path:
    """Install the wheel below `root`, in the layout of the tree; return its site-packages.

    Scripts get the interpreter of the tree on a node, wherever the tree is during the build.
    """
    root = code["root"]
    if code["pip"]:
        install_with_pip(root, code["tree"], f"{tree}/bin/python", wheel)
    else:
        install_with_installer(root, code["tree"], code["site"], wheel)
    site = Path(root + code["site"])
    exclude(Path(root + code["tree"]), site, code["exclude"])
    return site.resolve()


def install_with_installer(root: str, tree: str, site: str, wheel: str) -> None:
    """Install the wheel with this Python's `installer`."""
    from installer import install  # noqa: PLC0415 - the tree of Python 2.7 has none
    from installer.destinations import SchemeDictionaryDestination  # noqa: PLC0415
    from installer.sources import WheelFile  # noqa: PLC0415

    scheme = {
        "purelib": site,
        "platlib": site,
        "scripts": f"{tree}/bin",
        "data": tree,
        "headers": f"{tree}/include",
    }
    destination = SchemeDictionaryDestination(
        scheme, interpreter=f"{tree}/bin/python", script_kind="posix", destdir=root
    )
    with WheelFile.open(wheel) as source:
        install(source, destination, additional_metadata={"INSTALLER": b"dpkg\n"})


def install_with_pip(root: str, tree: str, python: str, wheel: str) -> None:
    """Install the wheel with the tree's pip, for Python 2.7."""
    options = ["--no-deps", "--no-index", "--no-compile", "--ignore-installed", "--quiet"]
    options += ["--no-cache-dir", "--disable-pip-version-check", "--no-warn-script-location"]
    where = ["--root", os.path.abspath(root), "--prefix", tree]  # noqa: PTH100 - for a process
    subprocess.run([python, "-m", "pip", "install", *options, *where, wheel], check=True)
    packages = "lib/python2.7/site-packages"
    notes = [f"{packages}/*.dist-info/{name}" for name in NOTES]
    exclude(Path(root + tree), Path(root + tree, packages), notes)


def exclude(tree: Path, site: Path, patterns: list[str]) -> None:
    """Remove files that are not packaged, and their lines in the wheel's RECORD."""
    gone = []
    for pattern in patterns:
        for found in sorted(tree.glob(pattern)):
            gone.append(os.path.relpath(found, site))
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()
    prefixes = tuple(g + "/" for g in gone)
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        kept = (x for x in lines if not x.startswith(prefixes) and x.split(",")[0] not in gone)
        record.write_text("".join(kept))


def put_file(file: dict, here: dict[str, str]) -> None:
    """Write one file, or copy all files that match a glob into a directory."""
    destination = Path(file["to"])
    if file["to"].endswith("/"):
        destination.mkdir(parents=True, exist_ok=True)
        found = sorted(Path().glob(file["from"]))
        if not found:
            sys.exit(f"the source contains no {file['from']}")
        for path in found:
            shutil.copyfile(path, destination / path.name)
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    text = read(file)
    for path, on_node in here.items():
        text = text.replace(path, on_node)
    destination.write_text(set_presets(text, file["presets"]))


def read(file: dict) -> str:
    """Return the text of a generated, copied or given file."""
    for kind in ("config-generator", "policy-generator"):
        if kind in file:
            return sample_of(file[kind]).read_text()
    if "from" in file:
        return Path(file["from"]).read_text()
    return file["text"]


def sample_of(source: str) -> Path:
    """Return the path of the sample generated from the input file `source`."""
    return SAMPLES / source.replace("/", "_")


def generate_samples(files: list[dict], site: Path, tree: str) -> None:
    """Generate all sample files, with the tree's Python and the service's own modules."""
    rows = [
        [kind, file[kind], str(sample_of(file[kind]))]
        for file in files
        for kind in ("config-generator", "policy-generator")
        if kind in file
    ]
    SAMPLES.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [f"{tree}/bin/python", "debian/samples.py", str(site), json.dumps(rows)]
    subprocess.run(command, check=True, env=environment)


def put_options(plan: dict, places: dict[str, str]) -> None:
    """Write the options of all sample files together, for `openstack-node`.

    A daemon reads several files, and any option may be in any of them. Paths in defaults are
    replaced by the names in `places`, so that the defaults of two series can be compared.
    """
    known: dict = {"options": {}, "renamed": {}, "defaults": {}}
    for path in plan["from"]:
        add_options(known, Path(path).read_text())
    defaults: dict[tuple[str, str], set[str | None]] = {}
    for file in sorted(SAMPLES.glob("*.about")):
        about = json.loads(file.read_text())
        for old_section, old, section, name in about["former"]:
            known["renamed"].setdefault(old_section, {})[old] = f"[{section}] {name}"
        for section, name, value in about["defaults"]:
            defaults.setdefault((section, name), set()).add(placed(value, places))
    for section, names in known["options"].items():
        for name in names:
            add_default(known, section, name, defaults.get((section, name), set()))
    target = Path(plan["to"])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(known, indent=0, sort_keys=True) + "\n")


def placed(value: str | None, places: dict[str, str]) -> str | None:
    """Return a default with the locations of the code replaced by their names."""
    for path, name in places.items():
        value = value and value.replace(path, name)
    return value


def add_default(known: dict, section: str, name: str, values: set[str | None]) -> None:
    """Add an option's default, unless there is none, as for most options.

    `v` among the flags of an option: its default varies between hosts or files.
    """
    if len(values) != 1:
        known["options"][section][name] += "v"
    elif values != {None}:
        known["defaults"].setdefault(section, {})[name] = values.pop()


def add_options(known: dict, text: str) -> None:
    """Add the options of a sample: section, name, and flags (`m` multi-valued, `d` deprecated)."""
    section, comments = "DEFAULT", []
    for line in text.split("\n"):
        header = re.match(r"\[([^\]]+)\]$", line)
        option = re.match(r"#?([A-Za-z][\w.-]*)\s*=", line)
        if header:
            section = header[1]
            known["options"].setdefault(section, {})
        elif option:
            about = "\n".join(comments)
            flags = "m" if "(multi valued)" in about else ""
            flags += "d" if "option is deprecated for removal" in about else ""
            # A preset's line, below the sample's own, adds nothing new.
            known["options"].setdefault(section, {}).setdefault(option[1], flags)
        if line.startswith("# "):
            comments.append(line)
        elif line != "#":
            comments = []


def set_presets(text: str, presets: list[dict[str, str]]) -> str:
    """Return the text of an ini file with options set.

    A live line of the option is replaced; otherwise the option goes below its commented default,
    or, without one, at the end of the section, which is added if it is missing.
    """
    lines = text.split("\n")
    wanted = {}
    for preset in presets:
        line = f"{preset['option']} = {preset['value']}"
        wanted.setdefault((preset["section"], preset["option"]), []).append(line)
    for (section, option), new in wanted.items():
        first, last = section_bounds(lines, section)
        place, drop = option_place(lines, first, last, option)
        lines[place : place + drop] = new
    return "\n".join(lines)


def section_bounds(lines: list[str], section: str) -> tuple[int, int]:
    """Return the first line after the section's header and the line after its last option."""
    header = f"[{section}]"
    if header not in lines:
        lines += [header, ""] if not lines or lines[-1] == "" else ["", header, ""]
    first = lines.index(header) + 1
    last = first
    while last < len(lines) and not re.match(r"\[[^\]]+\]$", lines[last]):
        last += 1
    # Blank lines and comments on the next section are not part of this one.
    while last > first and (lines[last - 1] == "" or lines[last - 1].startswith("# ")):
        last -= 1
    return first, max(last, first)


def option_place(lines: list[str], first: int, last: int, option: str) -> tuple[int, int]:
    """Return the line at which to set the option, and how many lines to replace."""
    live = re.compile(rf"{re.escape(option)}\s*[=:]")
    # Prose may begin with an option's name too: the first match is the option's own.
    commented = re.compile(rf"#\s?{re.escape(option)}\s*=")
    for number in range(first, last):
        if live.match(lines[number]):
            return number, 1
    found = (n for n in range(first, last) if commented.match(lines[n]))
    place = next(found, last)
    while place < last and commented.match(lines[place]):
        place += 1
    return place, 0


def check_script(code: dict, target: str, tree: str) -> None:
    """Exit with an error if no package has a script that will be linked into /usr/bin."""
    in_tree = Path(tree, os.path.relpath(target, code["tree"]))
    if not Path(code["root"] + target).is_file() and not in_tree.is_file():
        sys.exit(f"neither the wheel nor the tree has the script {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
