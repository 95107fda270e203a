from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.unit.greeter.support import resource

from lobby_gateway.greeter.directory import Directory, DirectoryEntry
from lobby_gateway.greeter.seat_queue import LobbyId, OpenLobby


class Changes:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def entry_changed(self, entry: DirectoryEntry) -> None:
        self.seen.append(f"+{entry.lobby.key}")

    def entry_removed(self, key: str) -> None:
        self.seen.append(f"-{key}")

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


def directory() -> tuple[Directory, Changes]:
    changes = Changes()
    return Directory(changes), changes


def test_a_lobby_is_found_by_its_path() -> None:
    made, changes = directory()
    made.update([resource("prices", "10.0.0.1:4001"), resource("heads", path="/eth/heads")])
    assert changes.take() == ["+prices", "+heads"]
    entry = made.at("/prices")
    assert entry is not None
    assert entry.open == (OpenLobby(LobbyId("prices-1", "10.0.0.1:4001"), 0, 512),)
    assert made.at("/eth/heads") is not None
    assert made.at("/heads") is None
    assert made.at("/prices/") is None


def test_lobbies_with_the_same_name_in_two_namespaces_are_separate() -> None:
    made, changes = directory()
    made.update([resource("a", namespace="north", path="/n"), resource("a", namespace="south", path="/s")])
    assert changes.take() == ["+north/a", "+south/a"]
    north = made.at("/n")
    assert north is not None
    assert north.lobby.key == "north/a"
    assert made.status("south/a") is not None
    assert made.status("a") is None
    made.update([resource("a", namespace="south", path="/s")])
    assert changes.take() == ["-north/a"]


def test_one_lobby_is_added_changed_and_removed_without_the_others() -> None:
    made, changes = directory()
    made.put(resource("a", "10.0.0.1:1"))
    made.put(resource("b"))
    assert made.known is False  # its source says when it has told all
    assert changes.take() == ["+a", "+b"]
    made.put(resource("a", "10.0.0.1:1"))
    assert changes.take() == []
    made.put(resource("a", "10.0.0.1:2"))
    entry = made.at("/a")
    assert entry is not None
    assert entry.open[0].id.address == "10.0.0.1:2"
    made.put(resource("a", path="/c"))
    assert (made.at("/a"), made.at("/c") is not None) == (None, True)
    made.remove("a")
    made.remove("a")
    assert changes.take() == ["+a", "+a", "-a"]
    assert made.at("/c") is None
    assert len(made) == 1


def test_the_next_lobby_gets_a_path_when_its_owner_is_deleted_or_changes_it() -> None:
    made, _ = directory()
    second = "2026-01-01T00:00:01Z"
    made.put(resource("b", path="/x", created=second, namespace="n"))
    made.put(resource("a", path="/x", created=second, namespace="n"))
    made.put(resource("c", path="/x", created="2026-01-01T00:00:02Z", namespace="m"))

    def holder() -> str:
        entry = made.at("/x")
        return entry.lobby.key if entry is not None else ""

    assert holder() == "n/a"  # of the same second: by namespace and name
    made.put(resource("a", path="/y", created=second, namespace="n"))
    assert holder() == "n/b"
    made.remove("n/b")
    assert holder() == "m/c"


def test_an_invalid_resource_is_logged_once_per_problem(caplog: pytest.LogCaptureFixture) -> None:
    made, _ = directory()
    made.put(resource("a"))
    broken = {**resource("a"), "spec": {"path": 5}}
    for number in range(3):
        made.put({**broken, "status": {"clients": number}})
    made.put({**broken, "spec": {}})
    made.put(resource("a", "10.0.0.1:1"))
    made.put(broken)
    assert len(caplog.records) == 3
    assert made.at("/a") is not None


def test_the_directory_is_known_after_the_first_update() -> None:
    assert directory()[0].known is False
    made, _ = directory()
    made.update([])
    assert made.known is True


def test_only_changes_are_reported() -> None:
    made, changes = directory()
    made.update([resource("a"), resource("b")])
    changes.take()
    made.update([resource("a"), resource("b", "10.0.0.1:1")])
    assert changes.take() == ["+b"]
    made.update([resource("a", waitSeconds=3)])
    assert sorted(changes.take()) == ["+a", "-b"]
    entry = made.at("/a")
    assert entry is not None
    assert entry.lobby.spec.wait_seconds == 3


def test_a_change_of_status_keeps_the_spec() -> None:
    made, _ = directory()
    made.update([resource("a", "10.0.0.1:1")])
    before = made.at("/a")
    made.update([resource("a", "10.0.0.1:2")])
    after = made.at("/a")
    assert before is not None
    assert after is not None
    assert after.lobby is before.lobby
    assert after.open[0].id.address == "10.0.0.1:2"


def test_seats_and_clients_come_from_the_status_and_default_to_the_spec() -> None:
    made, _ = directory()
    raw = resource("a", clients={"seats": 7})
    raw["status"]["open"] = [
        {"name": "a-1", "address": "10.0.0.1:1"},
        {"name": "a-2", "address": "10.0.0.1:2", "clients": 3, "seats": 9},
    ]
    made.update([raw])
    entry = made.at("/a")
    assert entry is not None
    assert [(each.clients, each.seats) for each in entry.open] == [(0, 7), (3, 9)]


@pytest.mark.parametrize("status", [None, {}, {"open": None}])
def test_a_lobby_without_status_has_no_open_lobbies(status: Any) -> None:
    made, _ = directory()
    raw = resource("a")
    raw["status"] = status
    made.update([raw])
    entry = made.at("/a")
    assert entry is not None
    assert entry.open == ()


def test_the_older_of_two_keeps_the_path() -> None:
    made, _ = directory()
    younger = resource("younger", path="/p", created="2026-02-01T00:00:00Z")
    older = resource("older", path="/p", created="2026-01-01T00:00:00Z")
    made.update([younger, older])
    entry = made.at("/p")
    assert entry is not None
    assert entry.lobby.name == "older"
    made.update([younger])
    entry = made.at("/p")
    assert entry is not None
    assert entry.lobby.name == "younger"


def test_without_creation_times_the_first_in_the_list_keeps_the_path() -> None:
    made, _ = directory()
    made.update([resource("b", path="/p"), resource("a", path="/p")])
    entry = made.at("/p")
    assert entry is not None
    assert entry.lobby.name == "b"


def broken(kind: str) -> Any:
    raw: Any = resource("a", "10.0.0.1:9")
    if kind == "no spec":
        del raw["spec"]
    elif kind == "wrong field":
        raw["spec"]["clients"]["seats"] = "many"
    elif kind == "no address":
        del raw["status"]["open"][0]["address"]
    else:
        raw["status"] = "soon"
    return raw


@pytest.mark.parametrize("kind", ["no spec", "wrong field", "no address", "status is a text"])
def test_an_invalid_resource_keeps_its_previous_state(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    made, changes = directory()
    made.update([resource("a", "10.0.0.1:1"), resource("b", "10.0.0.1:2")])
    changes.take()
    made.update([broken(kind), resource("b", "10.0.0.1:3")])
    assert changes.take() == ["+b"]
    entry = made.at("/a")
    assert entry is not None
    assert entry.open[0].id.address == "10.0.0.1:1"
    assert "ignored an invalid Lobby update" in caplog.text
    made.update([resource("a", "10.0.0.1:4"), resource("b", "10.0.0.1:3")])
    assert changes.take() == ["+a"]


READER = """
import asyncio, sys
from lobby_gateway.greeter.directory import Directory, StdinSource

class Printing:
    def entry_changed(self, entry): print("changed", entry.lobby.name, len(entry.open), flush=True)
    def entry_removed(self, name): print("removed", name, flush=True)

async def main():
    ended = asyncio.Event()
    def end(reason):
        print("ended:", reason, flush=True)
        ended.set()
    await StdinSource().start(Directory(Printing()), end)
    await ended.wait()

asyncio.run(main())
"""


def test_each_line_of_standard_input_is_a_directory_and_its_end_means_that_the_parent_is_gone() -> None:
    lines = [
        json.dumps({"items": [resource("a", "10.0.0.1:1")]}),
        "not json",
        '{"items": 3}',
        "",
        json.dumps({"items": [resource("a", "10.0.0.1:1", "10.0.0.1:2")]}),
        json.dumps({"items": []}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=os.environ,
    )
    assert done.stdout.splitlines() == ["changed a 1", "changed a 2", "removed a", "ended: the parent exited"]
    assert done.stderr.count("is not a directory") == 2


def test_a_file_as_standard_input_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "directory.json"
    path.write_text("{}\n")
    with path.open() as file:
        done = subprocess.run(
            [sys.executable, "-c", READER], stdin=file, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode != 0
    assert "standard input is a file" in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "metadata.google.internal:80",
        "kubernetes.default.svc:443",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:80/path",
        "user@10.0.0.1:80",
        "fd00::1:80",
        "[10.0.0.1]:80",
        "[fd00::1%eth0]:80",
        "10.0.0.999:80",
        "10.0.0.1:80\n",
        "",
    ],
)
def test_a_status_whose_address_is_not_an_ip_address_with_a_port_is_ignored(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = directory()
    made.put(resource("a", "10.0.0.1:1"))
    made.put(resource("a", "10.0.0.1:2", address))
    entry = made.at("/a")
    assert entry is not None
    assert [each.id.address for each in entry.open] == ["10.0.0.1:1"]
    assert "ignored an invalid Lobby update" in caplog.text


@pytest.mark.parametrize("address", ["10.0.0.1:8000", "[fd00::1]:8000", "[::ffff:10.0.0.1]:65535"])
def test_both_families_of_addresses_are_accepted(address: str) -> None:
    made, _ = directory()
    made.put(resource("a", address))
    entry = made.at("/a")
    assert entry is not None
    assert [each.id.address for each in entry.open] == [address]


def not_served(name: str, **fields: Any) -> Any:
    made: Any = resource(name, **fields)
    made["status"]["conditions"] = [{"type": "PathAccepted", "status": "False", "reason": "NotServed"}]
    return made


def test_a_lobby_of_a_namespace_that_is_not_served_takes_no_path() -> None:
    made, _ = directory()
    first, second = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"
    made.put(resource("a", path="/x", created=first, namespace="intruder"))
    made.put(resource("b", path="/x", created=second, namespace="shop"))
    assert holder(made, "/x") == "intruder/a"  # nobody has judged it yet
    made.put(not_served("a", path="/x", created=first, namespace="intruder"))
    assert holder(made, "/x") == "shop/b"
    made.update([not_served("a", path="/x", created=first, namespace="intruder")])
    assert holder(made, "/x") is None


def test_with_prefixed_paths_namespaces_cannot_meet() -> None:
    made = Directory(Changes(), prefix_paths=True)
    made.put(resource("a", path="/x", namespace="north"))
    made.put(resource("a", path="/x", namespace="south"))
    made.put(resource("a"))
    assert [holder(made, path) for path in ("/north/x", "/south/x", "/x", "/a")] == ["north/a", "south/a", None, "a"]


def invalid(name: str, path: str, last: dict[str, Any], *addresses: str) -> dict[str, Any]:
    """A Lobby whose stored spec has another path and is invalid, and its lobbies now."""
    made = resource(name, *addresses, path=path, clients={"seats": 9})
    return {**made, "status": {**made["status"], "lastValidSpec": last["spec"]}}


def test_the_last_valid_spec_is_in_force_while_the_stored_one_is_invalid() -> None:
    made, changes = directory()
    valid = resource("a", "10.0.0.1:1", path="/a", clients={"seats": 5})
    for known in (True, False):  # to this greeter; another one starts now
        if not known:
            made, changes = directory()
        else:
            made.put(valid)
        made.put(invalid("a", "/b", valid, "10.0.0.1:2"))
        entry = made.at("/a")
        assert entry is not None
        assert entry.lobby.spec.clients.seats == 5
        assert entry.open[0].id.address == "10.0.0.1:2"  # lobbies still come and go
        assert made.at("/b") is None
        changes.take()
        made.put(invalid("a", "/b", valid, "10.0.0.1:2"))
        assert changes.take() == []
        made.put(resource("a", "10.0.0.1:2", path="/b"))
        assert (made.at("/a"), made.at("/b") is not None) == (None, True)


def test_a_last_valid_spec_has_the_path_at_which_it_is_served() -> None:
    made = Directory(Changes(), prefix_paths=True)
    last = resource("a", path="/shop/x", namespace="shop")
    stored = resource("a", path="/y", namespace="shop")
    made.put({**stored, "status": {"lastValidSpec": last["spec"]}})
    assert [holder(made, path) for path in ("/shop/x", "/shop/y")] == ["shop/a", None]


def holder(made: Directory, path: str) -> str | None:
    entry = made.at(path)
    return entry.lobby.key if entry is not None else None
