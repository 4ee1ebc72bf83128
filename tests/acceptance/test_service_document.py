"""docs/service-files.md: the service of its six steps is locked and built from its text alone."""

import re
import shlex
import subprocess
import textwrap

import pytest
from suites import CHECKOUT

TEXT = (CHECKOUT / "docs/service-files.md").read_text()


def blocks(kind):
    found = re.findall(rf"^ *```{kind}\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    (directory / "services").mkdir()
    (directory / "services/zaqar.toml").write_text("\n".join(blocks("toml")))
    return directory


def test_the_six_steps_package_a_service(site):
    lock, build = blocks("sh")
    for command, more in ((lock, []), (build, ["--repo", site / "repo", "--target", "bookworm"])):
        program, *words = shlex.split(command)
        assert program == "build-debs"
        argv = [CHECKOUT / ".venv/bin/build-debs", *words, *more]
        done = subprocess.run(argv, cwd=site, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    made = {path.name.split("_")[0] for path in site.glob("repo/pool/**/*.deb")}
    assert {"zaqar-common", "zaqar-server", "openstack-2026.1-zaqar"} <= made
    assert not made & {"keystone", "nova-api"}
    (deb,) = site.glob("repo/pool/**/zaqar-server_*.deb")
    listing = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True)
    assert "/lib/systemd/system/zaqar-server.service" in listing.stdout
