"""The rules of the import graph: what a module may know of the others."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("catalogue", "resolve", "fetch", "wheels", "debs", "publish")
# What all may know of. It knows no stage, and of the values between them nothing but `model`.
SHARED = {
    "archives", "cache", "dirs", "errors", "files", "index", "log", "model", "patches", "roots",
    "run", "sdist", "start", "templates", "web",
}  # fmt: skip
# Who may see two stages: one carries a build out, the others have a word for each.
ABOVE = {"cli", "diff", "given", "manual", "pipeline", "reports"}


PAYLOAD = ROOT / "builder/payload"  # what runs elsewhere
# The modules of single verbs of openstack-node; they share what the others have.
VERBS = {
    "leftovers", "plan", "plan_text", "rollback", "setup", "status", "status_text", "upgrade",
}  # fmt: skip


def modules():
    """Map each module of the builder to its path."""
    found = {}
    for path in sorted((ROOT / "builder").rglob("*.py")):
        if PAYLOAD not in path.parents:
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imports(path):
    """Return every module a file imports, at any depth, those for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(module):
    """Return the folder or file right below builder/ that a module is in."""
    parts = module.split(".")
    return parts[1] if parts[0] == "builder" and len(parts) > 1 else ""


def rooms_seen(module):
    return {room_of(name) for name in imports(modules()[module])} - {"", "__version__"}


def test_every_module_has_its_place():
    rooms = {room_of(module) for module in modules()} - {""}
    assert rooms == {*STAGES, *SHARED, *ABOVE}


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_elsewhere_knows_nothing_of_the_builder(path):
    assert not {name for name in imports(path) if name.split(".")[0] == "builder"}


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda p: p.name)
def test_a_verb_on_nodes_borrows_from_no_other(path):
    seen = {m.split(".")[1] for m in imports(path) if m.startswith("openstack_node.")}
    own = {"cli": VERBS, "plan_text": {"plan"}, "status_text": {"status"}}.get(path.stem, set())
    assert seen & VERBS <= own


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_on_nodes_uses_no_private_name_of_another_module(path):
    tree = ast.parse(path.read_text())
    rows = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names = {alias.asname or alias.name for row in rows for alias in row.names}
    used = {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in names
    }
    assert not {name for name in names | used if re.match("_[^_]", name)}


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_on_nodes_names_no_service(path):
    services = [p.stem for p in (ROOT / "projects/services").glob("*.toml")]
    assert not re.findall(rf"\b({'|'.join(services)})\b", path.read_text(), re.IGNORECASE)


def test_the_builder_imports_nothing_of_what_runs_elsewhere():
    assert users_of({"openstack_node", "smoke"}) == set()


@pytest.mark.parametrize("module", [m for m in modules() if room_of(m) in STAGES])
def test_a_stage_knows_itself_and_what_all_share(module):
    assert rooms_seen(module) <= {room_of(module), *SHARED}


@pytest.mark.parametrize("module", [m for m in modules() if room_of(m) in SHARED])
def test_what_the_stages_share_knows_none_of_them(module):
    # where the command begins names what it begins
    allowed = {"builder.start": {"cli"}}.get(module, set())
    assert rooms_seen(module) <= SHARED | allowed


def users_of(names):
    return {m for m, p in modules().items() if {i.split(".")[0] for i in imports(p)} & set(names)}


def test_one_module_starts_processes():
    assert users_of({"subprocess", "pty", "pexpect"}) == {"builder.run"}
    calls = {"system", "popen", "execv", "execve", "execvp", "fork", "posix_spawn", "spawnv"}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = (node.value.id, node.attr) in {("os", c) for c in calls}
                # the one starts this very process again, the other goes on as itself
                ours = {("builder.run", "execv"), ("builder.start", "fork")}
                assert not called or (module, node.attr) in ours, module


def test_one_module_knows_stdeb():
    assert users_of({"stdeb"}) == {"builder.debs.stdeb_adapter"}


def test_only_the_command_line_exits_or_knows_click():
    assert users_of({"click"}) == {"builder.cli", "builder.manual"}
    for module, path in modules().items():
        text = path.read_text()
        assert module == "builder.cli" or ("sys.exit" not in text and "SystemExit" not in text)


def test_only_the_stages_that_ask_a_network_can():
    asking = users_of({"requests", "urllib", "http", "socket", "pypi_simple"})
    # index takes URLs apart and asks nobody
    assert asking <= {"builder.web", "builder.fetch.files", "builder.index"}


def test_no_module_swallows_every_error():
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and not any(
                isinstance(n, ast.Raise) for n in ast.walk(node)
            ):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in {"everything", "Exception", "BaseException"}, module
