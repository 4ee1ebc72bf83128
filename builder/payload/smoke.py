"""Try distributions in the tree they are installed in: smoke.py WORK TREE.

WORK/subjects.json lists what to try (`Subject` of builder/wheels/smoke.py); WORK/found.json gets
a row for each: the version in its metadata and what went wrong. Runs under the tree's Python, 2.7
or 3.
"""

import ast
import ctypes
import fnmatch
import importlib
import json
import os
import re
import subprocess
import sys
import traceback

MAPS = "/proc/self/maps"
# A module for another Python, which this one never loads.
FOREIGN = re.compile(r"[.](cpython|pypy|cp)[^/]*[.]so$")
# The status with which argparse refuses an option.
USAGE = 2
# Python's message for a library that has loaded but is not a module.
NO_MODULE = "dynamic module does not define"


def main(work, tree):
    """Try each subject in its own processes, so that none is affected by another."""
    with open(os.path.join(work, "subjects.json")) as stream:
        subjects = json.load(stream)
    tree, site = os.path.realpath(tree), locate_site_packages(tree)
    version = make_version_reader(site)
    found = []
    for subject in subjects:
        errors, row = [], {"name": subject["name"], "version": None}
        try:
            row["version"] = version(subject["name"])
        except Exception as error:  # noqa: BLE001 - broken metadata may raise anything
            errors.append(join_lines("its metadata: %s: %s" % (type(error).__name__, error)))
        errors += try_subject(subject, tree, site)
        errors += find_imports_of_gone(subject["gone"], subject["sources"], tree, site)
        errors += ask_version(os.path.join(tree, "bin"), subject["programs"], subject["wanted"])
        row["errors"] = errors
        found.append(row)
    with open(os.path.join(work, "found.json"), "w") as stream:
        json.dump(found, stream)


def locate_site_packages(tree):
    """Return the tree's site-packages."""
    tree = os.path.realpath(tree)
    return os.path.join(tree, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")


def join_lines(text):
    """Return a text on one line."""
    return " ".join(text.split())


def list_suffixes():
    """Return the file suffixes of this Python's compiled modules."""
    try:
        from importlib.machinery import EXTENSION_SUFFIXES  # noqa: PLC0415 - 2.7 has none
    except ImportError:
        return [".so", "module.so"]
    return EXTENSION_SUFFIXES


def try_subject(subject, tree, site):
    """Import a subject's modules, load its libraries; return what went wrong."""
    passed, modules, libraries = subject["passed"], list(subject["modules"]), {}
    for name in subject["libraries"]:
        path = os.path.join(tree, name)
        module = name_module(path, site)
        if FOREIGN.search(name) and not module:
            continue
        if module and module not in passed:
            modules.append(module)
        if not any(fnmatch.fnmatchcase(name, one) for one in passed):
            libraries[path] = name
    errors, mapped = import_modules(sorted(set(modules)), libraries)
    return errors + load_libraries({p: n for p, n in libraries.items() if p not in mapped})


def name_module(path, site):
    """Return the name of a compiled module, or "" if the file name is not that of a module."""
    for suffix in sorted(list_suffixes(), key=len, reverse=True):
        if path.startswith(site + os.sep) and path.endswith(suffix):
            name = path[len(site) + 1 : -len(suffix)].replace(os.sep, ".")
            if all(re.match(r"[A-Za-z_]\w*$", part) for part in name.split(".")):
                return name
    return ""


def make_version_reader(site):
    """Return a function that returns the version of a distribution installed in `site`.

    Only in `site`: Python 2.7's library has metadata of its own, for an older argparse.
    """
    try:
        from importlib.metadata import version  # noqa: PLC0415 - Python 2.7 has none
    except ImportError:
        import pkg_resources  # noqa: PLC0415

        here = pkg_resources.WorkingSet([site])
        return lambda name: here.by_key[pkg_resources.safe_name(name).lower()].version
    return version


def import_modules(modules, libraries):
    """Import modules; return what went wrong, a line each, and which libraries were loaded.

    A program's module may change its whole process, so a module that fails together with
    others is tried again alone.
    """
    failed, mapped = import_in_child(modules, libraries) if modules else ({}, set())
    if len(modules) > 1:
        for module in sorted(failed):
            again, more = import_in_child([module], libraries)
            failed[module] = again.get(module)
            mapped |= more
    return [line for _, line in sorted(failed.items()) if line], mapped


def import_in_child(modules, libraries):
    """Import modules in a child; return what went wrong, by module, and the loaded libraries."""
    status, lines = run_in_child(lambda tell: try_to_import(modules, libraries, tell))
    if status:
        return {m: "import {0}: ended with status {1}".format(m, status) for m in modules}, set()
    rows = [line.split(" ", 1) for line in lines]
    mapped = {path for kind, path in rows if kind == "mapped"}
    return {line.split()[1].rstrip(":"): line for kind, line in rows if kind == "failed"}, mapped


def run_in_child(work):
    """Run `work` in a child process; return its status and the lines it reports."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        status = 1
        try:
            work(
                lambda line: os.write(writing, (join_lines(line) + "\n").encode("utf-8", "replace"))
            )
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        lines = stream.read().decode("utf-8").splitlines()
    return os.waitpid(process, 0)[1], lines


def try_to_import(modules, libraries, tell):
    """Import each of the modules; report what goes wrong, and which libraries were loaded."""
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - whatever a module may raise
            if isinstance(error, ImportError) and str(error).startswith(NO_MODULE):
                continue
            traceback.print_exc()
            tell("failed import %s: %s: %s" % (module, type(error).__name__, error))
    if libraries:
        with open(MAPS) as stream:
            paths = {line.split(None, 5)[5].strip() for line in stream if "/" in line}
        for path in paths.intersection(libraries):
            tell("mapped " + path)


def load_libraries(libraries):
    """Load each library alone, and completely; return what went wrong, a line each."""
    errors = []
    for path, name in sorted(libraries.items()):
        status, lines = run_in_child(lambda tell, path=path: try_to_load(path, tell))
        errors += ["load %s: %s" % (name, line) for line in lines]
        if status:
            errors.append("load %s: ended with status %d" % (name, status))
    return errors


def try_to_load(path, tell):
    """Load a library, which looks up every function it needs at once."""
    try:
        ctypes.CDLL(path)
    except OSError as error:
        tell(str(error))


def find_imports_of_gone(gone, sources, tree, site):
    """Return where the remaining modules import left-out ones when they are imported."""
    words = [name.rpartition(".")[2].encode() for name in gone]
    errors = []
    for name in sources:
        with open(os.path.join(tree, name), "rb") as stream:
            text = stream.read()
        if not any(word in text for word in words):
            continue
        module = os.path.join(tree, name)[len(site) + 1 : -len(".py")].replace(os.sep, ".")
        package = module.rpartition(".")[0]
        if module.endswith(".__init__"):
            module = package
        try:
            body = ast.parse(text).body
        except SyntaxError:  # another Python's syntax, or a template
            continue
        for line, wanted in list_imports(body, package):
            if any((wanted + ".").startswith(lost + ".") for lost in gone):
                errors.append("%s imports %s (line %d), which is left out" % (module, wanted, line))
    return sorted(set(errors))


def list_imports(body, package):
    """Yield line and name of each import that running the statements performs, outside `try`."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
            base = ".".join(above if node.level else [])
            base = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, "%s.%s" % (base, alias.name)
        elif isinstance(node, (ast.If, ast.For, ast.With)) and not is_for_checkers(node):
            for found in list_imports(node.body + getattr(node, "orelse", []), package):
                yield found


def is_for_checkers(node):
    """Whether a statement is `if TYPE_CHECKING`."""
    test = getattr(node, "test", None)
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def ask_version(directory, programs, wanted):
    """Return what is wrong with the first program that knows --version; nothing if it is right.

    Where none knows it, the first must print its help.
    """
    for name in programs:
        status, said = run_program(directory, name, "--version")
        if status == USAGE:
            continue
        if status:
            return ["%s --version: %s" % (name, get_last_line(said))]
        return [] if wanted in said else ["%s --version prints %r" % (name, str(said.strip()))]
    if not programs:
        return []
    status, said = run_program(directory, programs[0], "--help")
    return ["%s --help: %s" % (programs[0], get_last_line(said))] if status else []


def run_program(directory, name, option):
    """Return the exit status of a program run with an option, and what it prints.

    Its shebang names the interpreter's path on a node, which may not exist here.
    """
    command = [os.path.join(directory, "python"), os.path.join(directory, name), option]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0].decode("utf-8", "replace")
    return process.returncode, said


def get_last_line(said):
    """Return the last line of what a program printed, where its error is."""
    return (said.rstrip().splitlines() or ["nothing"])[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
