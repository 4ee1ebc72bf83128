"""The Dockerfile builds, and runs the main job."""

import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run")


@pytest.mark.proof
def test_the_image_builds_a_service() -> None:
    argv = [RUN, "build-debs", "2026.1", "--project", "keystone"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
