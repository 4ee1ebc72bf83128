"""The rules of the import graph: what a module may know of the others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("catalogue", "resolve", "fetch", "wheels", "debs", "publish")
# Who may see two stages: one carries a build out, the other has a verb for each.
ABOVE = {"builder.pipeline", "builder.cli"}


def modules():
    """Map each module of the product to its path."""
    found = {}
    for path in sorted((ROOT / "builder").rglob("*.py")):
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


def stage_of(module):
    parts = module.split(".")
    return parts[1] if parts[0] == "builder" and len(parts) > 1 and parts[1] in STAGES else ""


@pytest.mark.parametrize("module", [m for m in modules() if m not in ABOVE])
def test_no_module_but_the_pipeline_and_the_command_line_sees_two_stages(module):
    seen = {stage_of(name) for name in imports(modules()[module])} - {""}
    own = stage_of(module)
    if own:
        assert seen <= {own}, f"{module} is of {own} and imports of another stage"
    else:
        assert len(seen) <= 1, f"{module} sees the stages {sorted(seen)}"


def test_what_the_stages_share_knows_none_of_them():
    for module in (
        "model",
        "errors",
        "run",
        "files",
        "log",
        "schema",
        "lock",
        "plan",
        "diff",
        "sdist",
        "patches",
        "signatures",
    ):
        name = f"builder.{module}"
        assert not {stage_of(i) for i in imports(modules()[name])} - {""}, name


def test_nothing_imports_what_is_above_the_stages():
    for module, path in modules().items():
        above = imports(path) & ABOVE
        assert not above or module == "builder.cli", f"{module} imports {above}"


def users_of(names):
    return {m for m, p in modules().items() if {i.split(".")[0] for i in imports(p)} & set(names)}


def test_one_module_starts_processes():
    assert users_of({"subprocess", "pty", "pexpect"}) == {"builder.run"}
    calls = {"system", "popen", "execv", "execve", "execvp", "fork", "posix_spawn", "spawnv"}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("os", c) for c in calls}, module


def test_one_module_knows_stdeb():
    assert users_of({"stdeb"}) == {"builder.debs.stdeb_adapter"}


def test_only_the_command_line_exits_or_knows_click():
    assert users_of({"click"}) == {"builder.cli"}
    for module, path in modules().items():
        text = path.read_text()
        assert module == "builder.cli" or ("sys.exit" not in text and "SystemExit" not in text)


def test_only_the_stages_that_ask_a_network_can():
    asking = users_of({"requests", "urllib", "http", "socket", "pypi_simple"})
    assert asking <= {"builder.fetch", "builder.resolve", "builder.upstream", "builder.catalogue"}


def test_no_module_swallows_every_error():
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and not any(
                isinstance(n, ast.Raise) for n in ast.walk(node)
            ):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in {"everything", "Exception", "BaseException"}, module
