"""What a pod of the API says about its lobby."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.kube.support import SETTINGS, UID, lobby, running_pod

from lobby_gateway.process.seat_reports import LobbyReport
from lobby_operator.kube.pod_state import PodState, lobby_reading, pod_state
from lobby_operator.kube.pods import pod_manifest, revision
from lobby_operator.planner.state import Held, Hold, PollResult


def pod(**metadata: Any) -> dict[str, Any]:
    made = pod_manifest(lobby(), "prices-1", SETTINGS, config="0123456789")
    made["metadata"] |= {"uid": "u1", "creationTimestamp": "2026-11-25T14:12:00Z", **metadata}
    return made


def status(**status: Any) -> PodState:
    return pod_state({**pod(), "status": status})


def test_a_new_pod_is_read_back() -> None:
    assert pod_state(pod()) == PodState(
        name="prices-1",
        uid="u1",
        owner=UID,
        created=1795615920.0,
        revision=revision(lobby(), SETTINGS),
        config="0123456789",
        safe_to_evict=True,
    )


def test_a_running_pod_has_an_address_and_readiness() -> None:
    state = pod_state(running_pod(pod()))
    assert (state.node, state.ip, state.started, state.ready) == ("node-1", "10.1.2.3", True, True)
    assert (state.ended, state.ending, state.serves) == (False, False, True)
    assert pod_state(running_pod(pod(), ready=False)).ready is False
    assert not pod_state(running_pod(pod(), started=False)).started
    assert status(phase="Pending").ready is None


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_finished_pod_has_ended(phase: str) -> None:
    assert status(phase=phase).ended
    assert not status(phase=phase).serves


def test_a_deleted_pod_is_ending() -> None:
    state = pod_state(running_pod(pod(deletionTimestamp="2026-11-25T14:13:00Z")))
    assert state.ending
    assert not state.serves


def test_an_annotation_marks_a_draining_pod() -> None:
    state = pod_state(running_pod(pod(annotations={"lobby-gateway.io/draining": "2026-11-25T14:13:00Z"})))
    assert (state.draining, state.draining_at) == (True, 1795615980.0)
    strange = pod_state(running_pod(pod(annotations={"lobby-gateway.io/draining": "yes"})))
    assert (strange.draining, strange.draining_at) == (True, None)
    assert pod_state(running_pod(pod())).draining_at is None
    assert not state.serves
    assert state.safe_to_evict is None


def test_a_foreign_pod_has_another_owner_or_none() -> None:
    assert pod_state(pod(ownerReferences=[{"uid": "x", "controller": True}])).owner == "x"
    assert pod_state(pod(ownerReferences=[{"uid": "x"}])).owner == ""
    assert pod_state({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "2026-11-25T14:12:00Z"}}).owner == ""


@pytest.mark.parametrize("broken", [{}, {"metadata": {"name": "a"}}, {"metadata": {**pod()["metadata"], "uid": None}}])
def test_anything_but_a_pod_is_rejected(broken: dict[str, Any]) -> None:
    if broken.get("metadata", {}).get("uid", "") is None:
        broken["metadata"].pop("uid")
    with pytest.raises(KeyError):
        pod_state(broken)


def test_a_lobby_combines_its_pod_and_its_report() -> None:
    report = LobbyReport(name="prices-1", lobby="prices", clients=3)
    reading = lobby_reading(pod_state(running_pod(pod())), PollResult(report, 5.0, 7.0, "timeout"), 2.5, was_up=True)
    assert (reading.name, reading.created_at, reading.address) == ("prices-1", 2.5, "10.1.2.3:8000")
    assert (reading.report, reading.unresponsive_since, reading.alive, reading.was_up) == (report, 7.0, True, True)
    assert (reading.draining, reading.ending, reading.ended) == (False, False, False)
    assert reading.revision == revision(lobby(), SETTINGS)


def test_an_ipv6_address_is_bracketed() -> None:
    assert lobby_reading(pod_state(running_pod(pod(), ip="fd00::7")), PollResult(), 0.0).address == "[fd00::7]:8000"


def test_a_pod_without_an_ip_has_no_address() -> None:
    assert lobby_reading(pod_state(pod()), PollResult(), 0.0).address == ""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"phase": "Running"}, ""),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available:\n2 Insufficient cpu.",
                    }
                ]
            },
            "Unschedulable: 0/2 nodes are available: 2 Insufficient cpu.",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "False"}]}, "not scheduled"),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}]},
            "ImagePullBackOff: Back-off",
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]},
            "Error (exit code 2)",
        ),
        ({"containerStatuses": [{"state": {"terminated": {"signal": 9}}}]}, "ended (signal 9)"),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory.",
        ),
    ],
)
def test_a_problem_is_one_line(given: dict[str, Any], problem: str) -> None:
    assert status(**given).problem == problem


def waiting(reason: str, name: str = "lobby") -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "state": {"waiting": {"reason": reason, "message": "why"}}}]}


@pytest.mark.parametrize(
    ("given", "hold"),
    [
        ({}, None),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, Hold.UNSCHEDULABLE),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, None),
        *((waiting(reason), Hold.IMAGE_UNAVAILABLE) for reason in ("ErrImagePull", "ImagePullBackOff")),
        *((waiting(reason), Hold.IMAGE_UNAVAILABLE) for reason in ("ErrImageNeverPull", "InvalidImageName")),
        (waiting("CreateContainerConfigError"), Hold.CONTAINER_NOT_CREATED),
        (waiting("ContainerCreating"), None),
        (waiting("CrashLoopBackOff"), None),
        (waiting("ImagePullBackOff", "sidecar"), None),
        ({**waiting("ErrImagePull"), "phase": "Failed"}, None),
    ],
)
def test_what_another_pod_would_wait_for_too_holds_a_pod(given: dict[str, Any], hold: Hold | None) -> None:
    held = status(**given).held
    assert (held and held.hold) == hold


def test_a_hold_is_said_in_one_line() -> None:
    assert status(**waiting("ErrImagePull")).held == Held(Hold.IMAGE_UNAVAILABLE, "ErrImagePull: why")


def test_a_pod_on_a_node_without_a_container_waits_for_the_kubelet() -> None:
    assert not pod_state(pod()).awaits_kubelet
    on_node = {**pod(), "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"}}
    assert pod_state(on_node).awaits_kubelet
    assert not pod_state({**on_node, "status": waiting("ErrImagePull")}).awaits_kubelet
    assert not pod_state(running_pod(pod())).awaits_kubelet


def test_the_events_count_only_while_it_waits() -> None:
    held = Held(Hold.SECRET_MISSING, "Secret feed is missing", ("feed",))
    on_node = pod_state({**pod(), "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"}})
    assert lobby_reading(on_node, PollResult(), 0.0, held=held).held == held
    running = lobby_reading(pod_state(running_pod(pod())), PollResult(), 0.0, held=held)
    assert (running.held, running.running) == (None, True)


def test_a_long_problem_is_truncated() -> None:
    problem = status(phase="Failed", reason="Evicted", message="x" * 1000).problem
    assert len(problem) == 300
    assert problem.endswith("...")
