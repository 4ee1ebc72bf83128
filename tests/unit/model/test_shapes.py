"""A value that would mean something else where it ends up is refused where it is read."""

import dataclasses
import shutil
import subprocess
import tomllib
import typing

import pytest
from cloud import SERVICE
from hypothesis import given
from hypothesis import strategies as st
from wheelhouse import REPOSITORY

from builder.catalogue import load as catalogue
from builder.debs.service.files import _quote_assignment
from builder.errors import DataError
from builder.model import reading, service, shapes
from builder.model import values as model

TINY = SERVICE.format(name="tiny", title="Tiny", more="")
# What a shell, make, systemd, dpkg or a path reads as more than itself, one of each kind.
ROOTED = "/home/a"
HOSTILE = (
    "$(touch /tmp/x)", "`id`", "a b", "a;b", "a'b", 'a\\"b', "a\\\\b", "a\\nb", "a\\tb",
    "a\\u001bb",
    "a\\u0000b", "../a", ROOTED, "a/../b", "-a", "", "a%b", "a|b", "a&b", "a>b", "a\\u202eb",
)  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def read(text, cls=service.Service):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return reading.load(path, cls)

    return read


DESCRIPTION = 'description = "OpenStack Tiny"'
SUMMARY = 'summary = "OpenStack Tiny"'
SCRIPTS = "scripts = ["


def changed(old, new):
    assert TINY.count(old) >= 1, old
    return TINY.replace(old, new, 1)


NAMES = {
    "user.name": lambda v: changed('[user]\nname = "tiny"', f'[user]\nname = "{v}"'),
    "user.home": lambda v: changed("[user]\n", f'[user]\nhome = "{v}"\n'),
    "user.shell": lambda v: changed("[user]\n", f'[user]\nshell = "{v}"\n'),
    "user.home-mode": lambda v: changed("[user]\n", f'[user]\nhome-mode = "{v}"\n'),
    "name": lambda v: changed('name = "tiny"', f'name = "{v}"'),
    "packages[0].name": lambda v: changed(
        '[[packages]]\nname = "tiny"', f'[[packages]]\nname = "{v}"'
    ),
    "packages[0].scripts[0]": lambda v: changed('"tiny-manage"]', f'"{v}"]'),
    "daemons[0].name": lambda v: changed(
        '[[daemons]]\nname = "tiny"', f'[[daemons]]\nname = "{v}"'
    ),
    "daemons[0].args[0]": lambda v: f'{TINY}args = ["{v}"]\n' if v not in {"-a", "../a", ROOTED,
                                                                        "a/../b"} else None,
    "daemons[0].after[0]": lambda v: f'{TINY}after = ["{v}"]\n',
    "daemons[0].script": lambda v: changed(
        'script = "tiny-manage"', f'script = "{v}"'
    ) if v != ROOTED else None,
    "daemons[0].read-write[0]": lambda v: f'{TINY}read-write = ["{v}"]\n'
    if v != ROOTED
    else None,
    "directories[0].path": lambda v: f'{TINY}[[directories]]\npath = "{v}"\n',
    "directories[0].owner": lambda v: f'{TINY}[[directories]]\npath = "/srv/a"\nowner = "{v}"\n',
    "directories[0].mode": lambda v: f'{TINY}[[directories]]\npath = "/srv/a"\nmode = "{v}"\n',
    "files[0].path": lambda v: changed('path = "tiny.conf"', f'path = "{v}"')
    if v != "-a" else None,
    "logs[0]": lambda v: changed('epoch = 2', f'epoch = 2\nlogs = ["{v}"]'),
    "steps[0].unless-exists": lambda v: f'{TINY}[[steps]]\ncommand = ["x"]\nunless-exists = "{v}"\n'
    if v != ROOTED else None,
    "homepage": lambda v: changed("https://docs.example.org/tiny/", v),
}  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", NAMES)
def test_a_name_or_path_that_a_script_would_read_otherwise_is_refused(read, key, value):
    text = NAMES[key](value)
    if text is None:  # is what such a value may be
        return
    with pytest.raises(DataError) as raised:
        read(text)
    assert f"tiny.toml: {key}: " in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("daemons[0].description", changed(DESCRIPTION, 'description = "a\\nExecStart=/bin/id"')),
        ("daemons[0].description", changed(DESCRIPTION, 'description = "a %h"')),
        ("packages[0].summary", changed(SUMMARY, 'summary = "a\\nDepends: evil"')),
        ("packages[0].summary", changed(SUMMARY, f'summary = "{"x" * 81}"')),
        ("packages[0].depends[0]", changed(SCRIPTS, 'depends = ["a,\\nZ: b"]\nscripts = [')),
        ("packages[0].depends[0]", changed(SCRIPTS, 'depends = ["a (>> 1"]\nscripts = [')),
        ("homepage", changed("https://docs.example.org/tiny/", r"https://a.example/\\")),
        ("homepage", changed("https://docs.example.org/tiny/", r"https://a.example/\"b")),
        ("title", changed('title = "OpenStack Tiny"', 'title = "Tiny\\" $(id) \\""')),
        ("sudoers[0]", changed("epoch = 2", 'epoch = 2\nsudoers = ["tiny-manage, /bin/sh"]')),
        ("sudoers[0]", changed("epoch = 2", 'epoch = 2\nsudoers = ["/bin/sh"]')),
        ("sudoers[0]", changed("epoch = 2", 'epoch = 2\nsudoers = ["x /etc/../root/*"]')),
        ("exclude[0]", changed("epoch = 2", 'epoch = 2\nexclude = ["../../x"]')),
        ("epoch", changed("epoch = 2", "epoch = -1")),
        ("user.uid", changed("[user]\n", "[user]\nuid = 4294967295\n")),
        ("daemons[0].port", f"{TINY}port = 65536\n"),
        ("daemons[0].port", f"{TINY}port = 0\n"),
        ("daemons[0].threads", f"{TINY}threads = -1\n"),
        ("daemons[0].settings[0]", f'{TINY}settings = ["[Install]"]\n'),
        ("daemons[0].settings[0]", f'{TINY}settings = ["Nice=1\\nUser=root"]\n'),
        ("daemons[0].environment.A B", f'{TINY}environment = {{ "A B" = "x" }}\n'),
        ("daemons[0].environment.A", f'{TINY}environment = {{ A = "x\\ny" }}\n'),
        ("directories[0].path", f'{TINY}[[directories]]\npath = "/var/lib/../../etc/x"\n'),
        ("directories[0].path", f'{TINY}[[directories]]\npath = "/etc"\n'),
        ("files[0].mode", changed('text = "', 'mode = "0888"\ntext = "')),
        ("files[0].text", changed("answer = 42", "answer = \\u0007")),
        ("top level", f'{TINY}[[directories]]\npath = "/var/lib/dpkg/info"\npurge = "remove"\n'),
    ],
)  # fmt: skip
def test_a_value_of_another_form_is_refused_with_its_place(read, key, text):
    with pytest.raises(DataError) as raised:
        read(text)
    assert f"tiny.toml: {key}: " in raised.value.message


@pytest.mark.parametrize(
    ("cls", "key", "text"),
    [
        (model.Target, "python", 'python = "3.11"'),
        (model.Target, "release", "release = 0"),
        (model.Target, "compression-level", "compression-level = 99"),
        (model.Target, "build-packages[0]", 'build-packages = ["gcc; id"]'),
        (model.Series, "date", 'date = "2024-02-31"'),
        (model.Series, "id", 'id = "../2024.1"'),
        (model.Series, "signing-key", 'signing-key = "0x"'),
        (model.Series, "versions.nova", 'versions = { nova = "1.0 || 2" }'),
        (model.Driver, "name", 'name = "a b"'),
        (model.Override, "requirement", 'requirement = "a @ http://example.org/a.whl"'),
        (model.Override, "requirement", 'requirement = "-r /etc/passwd"'),
        (model.Recipe, "packages[0]", 'packages = ["-o"]'),
        (model.Recipe, "environment.LD PRELOAD", 'environment = { "LD PRELOAD" = "x" }'),
        (model.LintianOverride, "tag", 'tag = "Some Tag\\nother: tag"'),
        (model.UpgradeStep, "text", 'text = "a\\u001b[2J"'),
    ],
)
def test_other_files_of_the_project_are_held_to_the_same(read, cls, key, text):
    with pytest.raises(DataError) as raised:
        read(text, cls)
    assert f"tiny.toml: {key}: " in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        f"epoch = {'1' * 10_000}",
        f"epoch = {'[' * 5_000}{']' * 5_000}",
        f"a = {'{b = ' * 3_000}1{'}' * 3_000}",
        "date = 2024-02-31",
        "\ufeffname = 'x'",
        "a = nan\nb = inf",
        f"name = '{'x' * 5_000_000}'",
        "name = 'a\x00b'",
    ],
    ids=["digits", "lists", "tables", "date", "BOM", "floats", "size", "NUL"],
)
def test_toml_made_to_break_its_reader_is_one_error(read, text):
    with pytest.raises(DataError) as raised:
        read(text)
    assert "tiny.toml" in raised.value.message
    assert len(raised.value.message) < 400


def test_what_is_no_file_is_said_to_be_none(tmp_path):
    with pytest.raises(DataError, match="expected a regular file, got a directory"):
        reading.load(tmp_path, service.Service)
    with pytest.raises(DataError, match="expected a regular file, got a special file"):
        reading.load(type(tmp_path)("/dev/zero"), service.Service)


def dataclasses_read():
    """Return every dataclass a file is read into, at any depth."""
    todo = [service.Service, model.Series, model.Target, model.Overrides, model.Lock,
            catalogue._DriverFile, catalogue._RecipeFile, catalogue._LintianFile,
            catalogue._RoleFile, catalogue._UpgradeFile]  # fmt: skip
    found = []
    while todo:
        cls = todo.pop()
        if cls not in found:
            found.append(cls)
            for _, hint in reading.list_fields(cls).values():
                todo += [t for t in leaves(hint) if dataclasses.is_dataclass(t)]
    return found


def leaves(hint):
    if typing.get_origin(hint) is typing.Annotated or not typing.get_args(hint):
        return [hint]
    return [leaf for part in typing.get_args(hint) for leaf in leaves(part)]


@pytest.mark.parametrize("value", ["a\nb", "a\x00", "a\x1b[0m", "\ud800", "a\u2028b"])
def test_no_text_of_a_file_is_without_a_rule(value):
    for cls in dataclasses_read():
        for key, (_, hint) in reading.list_fields(cls).items():
            for leaf in leaves(hint):
                if leaf is str or typing.get_args(leaf)[:1] == (str,):
                    if shapes.Text == leaf and value == "a\nb":
                        continue
                    with pytest.raises(DataError, match=key):
                        reading.build(value, leaf, "file", (None, key))


def test_every_committed_file_is_read_as_it_is():
    found = catalogue.load(REPOSITORY / "projects")
    for path in (REPOSITORY / "projects/services").glob("*.toml"):
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        assert found.services[path.stem].user.name == raw["user"]["name"]


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp"]))


@given(WORDS)
def test_a_value_of_the_environment_is_read_back_by_systemd_as_it_was(value):
    assert read_by_systemd(_quote_assignment("NAME", value)) == f"NAME={value}"


def read_by_systemd(line):
    """Return what systemd.syntax(7) makes of one word: quotes, backslashes and specifiers."""
    quoted = line.startswith('"')
    body, out, escaped = line[1:-1] if quoted else line, "", False
    for c in body:
        if escaped or c != "\\":
            assert escaped or c != '"'
            out += c
        escaped = c == "\\" and not escaped
    assert quoted or not any(c.isspace() or c in "\"'\\" for c in body)
    return out.replace("%%", "%")


def test_systemd_itself_reads_such_an_environment(tmp_path):
    value = """two words; 100% "quoted" it's \\ done"""
    unit = tmp_path / "tiny-check.service"
    line = f"Environment={_quote_assignment('NAME', value)}"
    unit.write_text(f"[Service]\n{line}\nExecStart=/bin/true\n")
    assert shutil.which("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "Environment" not in done.stderr + done.stdout


@given(st.text())
def test_one_line_is_always_a_line(text):
    assert shapes.LINE.fits(shapes.make_line(text))
