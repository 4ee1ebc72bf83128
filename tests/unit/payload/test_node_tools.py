"""The services' own commands: how they run, and what their upgrade checks say."""

import nodeside
import pytest
from openstack_node import system, tools


def test_a_command_is_of_the_tree_and_runs_as_the_services_user(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(system, "run", lambda argv, **how: ran.append((argv, how)))
    toy = nodeside.service(tmp_path)
    tools.run(toy, ["toy-manage", "db", "sync"], {"OS_X": "1"})
    ((argv, how),) = ran
    assert argv == [f"{tmp_path}/tree/bin/toy-manage", "db", "sync"]
    assert (how["user"], how["merged"]) == ("toy", True)
    assert how["env"] == {"OS_DEFAULT__USE_STDERR": "true", "OS_X": "1"}


@pytest.mark.parametrize(("code", "ended"), [(2, "exited with status 2"), (None, "timed out")])
def test_of_one_that_fails_it_is_said_how_it_ended(tmp_path, code, ended):
    done = system.Done(code, "mysql://toy:SECRET@db\n")
    error = tools.command_error(
        nodeside.service(tmp_path), ["toy-manage", "sync"], done, "do it again"
    )
    assert str(error) == f"toy: toy-manage sync {ended}"
    assert error.hints[0].endswith("toy-manage.log; after fixing the problem, do it again")
    assert error.details == "mysql://toy:***@db"


def test_the_table_of_an_upgrade_check_is_read():
    assert tools.parse_checks(nodeside.CHECKS) == [
        tools.Check("Cells v2", "Success", "None"),
        tools.Check("Placement API", "Failure", "No credentials, set [placement]."),
    ]
