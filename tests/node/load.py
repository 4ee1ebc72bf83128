"""Two users at work at once against the six APIs of a cloud: a program, run on a node.

    load.py SECONDS [BUSY IDLE]    for so long, by turns BUSY seconds of work and IDLE of none

Its environment: ADMIN_PASS, MEMBER_PASS. On standard output comes a JSON object: `answered`, by
API; `lost`, requests without a whole answer; `wrong`, answers that were not that user's own.
Every request has a connection of its own, as a new client's has.
"""

from __future__ import annotations

import base64
import collections
import http.client
import json
import os
import sys
import threading
import time
import uuid

HOST = "controller"
PORTS = {
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova": 8774,
    "neutron": 9696,
    "cinder": 8776,
}
THREADS = {"keystone": 3}  # of each user; one for each other API
SECONDS = 300  # for an answer: one that is slow is not lost
MOST_SAID = 20
FORBIDDEN = 403


class LostError(Exception):
    """There was no answer, or not all of it."""


def ask(api, line, token="", body=None, headers=()):
    """Return the status, the headers and the JSON of an answer; `line` is `GET /path`."""
    method, path = line.split()
    connection = http.client.HTTPConnection(HOST, PORTS[api], timeout=SECONDS)
    given = {"X-Auth-Token": token, "Accept": "application/json", **dict(headers)}
    if body is not None:
        body = json.dumps(body)
        given["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise LostError(f"{api} {line}: {error!r}") from error
    finally:
        connection.close()
    return answer.status, answer.headers, json.loads(text or "null")


class User:
    """Somebody with a token of a project."""

    def __init__(self, name, project, password):
        domain = {"id": "default"}
        identity = {"name": name, "domain": domain, "password": password}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": identity}},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        status, headers, answer = ask("keystone", "POST /v3/auth/tokens", body=body)
        assert status == http.client.CREATED, answer
        self.name = name
        self.token = headers["X-Subject-Token"]
        self.id = answer["token"]["user"]["id"]
        self.project = answer["token"]["project"]["id"]
        self.roles = {role["name"] for role in answer["token"]["roles"]}
        self.admin = "admin" in self.roles

    def ask(self, api, line, body=None, headers=()):
        return ask(api, line, self.token, body, headers)

    def expect(self, api, line, status, body=None, headers=()):
        """Return the JSON of an answer that has to have `status`."""
        got, _, answer = self.ask(api, line, body, headers)
        assert got == status, f"{api} {line}: {got} {str(answer)[:200]}"
        return answer

    def own(self, what, found):
        """Hold an owner an answer names against who asked."""
        assert found in (self.id, self.project), f"{what} of {found}"


# -- what each user does with an API, and whose answer it has to be


def keystone(user):
    token = (("X-Subject-Token", user.token),)
    seen = user.expect("keystone", "GET /v3/auth/tokens", 200, headers=token)["token"]
    user.own("token", seen["user"]["id"])
    user.expect("keystone", "GET /v3/users", 200 if user.admin else FORBIDDEN)
    if user.admin:
        return
    path = f"/v3/users/{user.id}/application_credentials"
    body = {"application_credential": {"name": uuid.uuid4().hex}}
    made = user.expect("keystone", f"POST {path}", 201, body)["application_credential"]
    user.own("application credential", made["project_id"])
    roles = {role["name"] for role in made["roles"]}
    assert roles == user.roles, f"application credential with {roles}"
    user.expect("keystone", f"DELETE {path}/{made['id']}", 204)


def glance(user):
    body = {"name": "load", "container_format": "bare", "disk_format": "raw"}
    made = user.expect("glance", "POST /v2/images", 201, body)
    user.own("image", made["owner"])
    user.expect("glance", f"DELETE /v2/images/{made['id']}", 204)


def placement(user):
    user.expect("placement", "GET /resource_providers", 200 if user.admin else FORBIDDEN)


def nova(user):
    name = uuid.uuid4().hex
    latest = (("OpenStack-API-Version", "compute 2.60"),)
    body = {"keypair": {"name": name, "public_key": KEY, "type": "ssh"}}
    made = user.expect("nova", "POST /v2.1/os-keypairs", 201, body, latest)["keypair"]
    user.own("key pair", made["user_id"])
    user.expect("nova", f"DELETE /v2.1/os-keypairs/{name}", 204, headers=latest)
    user.expect("nova", "GET /v2.1/os-services", 200 if user.admin else FORBIDDEN)


def neutron(user):
    body = {"address_scope": {"name": "load", "ip_version": 4}}
    made = user.expect("neutron", "POST /v2.0/address-scopes", 201, body)["address_scope"]
    user.own("address scope", made["project_id"])
    user.expect("neutron", f"DELETE /v2.0/address-scopes/{made['id']}", 204)


def cinder(user):
    # A token of another project than the address names is refused.
    user.expect("cinder", f"GET /v3/{user.project}/volumes", 200)
    allowed = 200 if user.admin else FORBIDDEN
    user.expect("cinder", f"GET /v3/{user.project}/os-services", allowed)


ACTS = {f.__name__: f for f in (keystone, glance, placement, nova, neutron, cinder)}
# An SSH key as nova reads it: its name and 32 octets, each after its length.
BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0 " + os.urandom(32)
KEY = f"ssh-ed25519 {base64.b64encode(BLOB).decode()}"


def main(seconds, busy=0.0, idle=0.0):
    users = [
        User("admin", "admin", os.environ["ADMIN_PASS"]),
        User("member", "members", os.environ["MEMBER_PASS"]),
    ]
    start = time.monotonic()
    answered, lost, wrong = collections.Counter(), [], []

    def work(user, api):
        while (now := time.monotonic() - start) < seconds:
            if busy and now % (busy + idle) > busy:
                time.sleep(0.2)
                continue
            try:
                ACTS[api](user)
                answered[api] += 1
            except LostError as error:
                lost.append(f"{user.name}: {error}")
            except Exception as error:  # noqa: BLE001 - an answer of another form is wrong, too
                wrong.append(f"{user.name}: {error!r}")

    threads = [
        threading.Thread(target=work, args=(user, api))
        for user in users
        for api in ACTS
        for _ in range(THREADS.get(api, 1))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = {"answered": answered, "lost": len(lost), "wrong": len(wrong)}
    # What is said again and again hides the rest.
    report["said"] = [f"{n} times {text}" for text, n in collections.Counter(lost + wrong).items()]
    report["said"] = report["said"][:MOST_SAID]
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
