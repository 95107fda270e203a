"""Converts the pod of a lobby from the API's JSON to what the planner reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from lobby_gateway.process.seat_reports import LobbyReport
from lobby_operator.kube import names
from lobby_operator.planner.state import Held, Hold, LobbyReading, PollResult

LOBBY_CONTAINER = "lobby"
"""Name of the container in the pod of a lobby."""

_HOLDS = {
    **dict.fromkeys(
        ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"), Hold.IMAGE_UNAVAILABLE
    ),
    **dict.fromkeys(("ImageInspectError", "RegistryUnavailable"), Hold.IMAGE_UNAVAILABLE),
    **dict.fromkeys(("CreateContainerConfigError", "CreateContainerError"), Hold.CONTAINER_NOT_CREATED),
}
"""Reasons of a waiting container that the kubelet retries by itself: another pod would wait for the same."""

_TERMINAL_PHASES = ("Succeeded", "Failed")

_MAX_POD_PROBLEM = 300
"""Characters of a problem: it becomes part of a condition's message, which people read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What matters about a lobby's pod. A whole pod is 10 KiB of JSON, and there may be thousands.

    Attributes:
        name: name of the pod and of the lobby.
        uid: uid of the pod.
        owner: uid of the Lobby that owns it; empty: none.
        created: its creation time, in seconds since 1970.
        node: name of its node; empty until it is scheduled.
        ip: its IP address; empty until it has one.
        running: the container of the lobby runs.
        held: what keeps it from being created, as far as the pod's status says; the kubelet's Events may say more.
        started: the kubelet's startup probe has succeeded.
        ready: its condition Ready, as set by the kubelet (or, when the node is lost, by Kubernetes); None: not set yet.
        draining: it is marked as draining.
        draining_at: when it was marked, in seconds since 1970; None: it is not, or the mark has no time that can be read.
        ending: it was deleted and is terminating.
        ended: its process has ended.
        revision: see `pods.revision`.
        config: digest of the live configuration, as last written to its annotation.
        safe_to_evict: whether the cluster autoscaler may evict it; None: not set.
        problem: why it does not run, as one line for people; empty if unknown.
    """

    name: str
    uid: str
    owner: str = ""
    created: float = 0.0
    node: str = ""
    ip: str = ""
    running: bool = False
    held: Held | None = None
    started: bool = False
    ready: bool | None = None
    draining: bool = False
    draining_at: float | None = None
    ending: bool = False
    ended: bool = False
    revision: str = ""
    config: str = ""
    safe_to_evict: bool | None = None
    problem: str = ""

    @property
    def serves(self) -> bool:
        """It is not marked as draining, not being deleted, and has not ended."""
        return not (self.draining or self.ending or self.ended)

    @property
    def awaits_kubelet(self) -> bool:
        """It is on a node and its container does not run, for a reason that the status does not give."""
        return bool(self.node) and not (self.running or self.ending or self.ended) and self.held is None


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Reads a pod of the API. What thousands of pods have in common is kept once.

    Raises:
        KeyError, ValueError: it is not a pod.
    """
    metadata = pod["metadata"]
    status = pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    safe = annotations.get(names.SAFE_TO_EVICT_ANNOTATION)
    ended = status.get("phase") in _TERMINAL_PHASES
    return PodState(
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        owner=intern(owner_of(metadata)),
        created=_seconds(metadata["creationTimestamp"]),
        node=intern(str((pod.get("spec") or {}).get("nodeName") or "")),
        ip=str(status.get("podIP") or ""),
        running=any("running" in (container.get("state") or {}) for container in _lobby_container(status)),
        held=None if ended else _held(status),
        started=any(container.get("started") for container in status.get("containerStatuses") or ()),
        ready=_ready(status),
        draining=bool(annotations.get(names.DRAINING_ANNOTATION)),
        draining_at=_marked_at(str(annotations.get(names.DRAINING_ANNOTATION) or "")),
        ending=bool(metadata.get("deletionTimestamp")),
        ended=ended,
        revision=intern(str((metadata.get("labels") or {}).get(names.REVISION_LABEL, ""))),
        config=intern(str(annotations.get(names.CONFIG_ANNOTATION, ""))),
        safe_to_evict=None if safe is None else safe == "true",
        problem=_problem(status, ended=ended),
    )


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


def _marked_at(time: str) -> float | None:
    try:
        return _seconds(time)
    except (ValueError, OverflowError):  # there is none, or somebody else has written it
        return None


def owner_of(metadata: Mapping[str, Any]) -> str:
    """The uid of the controller that owns an object; empty: none."""
    owners = metadata.get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def lobby_reading(
    pod: PodState,
    result: PollResult[LobbyReport],
    created_at: float,
    *,
    draining_since: float | None = None,
    was_up: bool = False,
    held: Held | None = None,
) -> LobbyReading:
    """What is known about a lobby.

    Args:
        pod: its pod.
        result: the latest poll of it.
        created_at: its creation time, on the operator's clock.
        draining_since: when it was marked as draining, on the same clock; None: it is not, or that is not known.
        was_up: it had already started when this process first saw it.
        held: what keeps it from starting, as the kubelet's Events say.
    """
    return LobbyReading(
        name=pod.name,
        created_at=created_at,
        address=authority(pod.ip, names.CLIENTS_PORT) if pod.ip else "",
        report=result.report,
        unresponsive_since=result.unresponsive_since,
        alive=pod.ready,
        was_up=was_up,
        held=pod.held or (held if pod.awaits_kubelet else None),
        running=pod.running,
        draining=pod.draining,
        draining_since=draining_since,
        ending=pod.ending,
        ended=pod.ended,
        revision=pod.revision,
    )


def authority(ip: str, port: int) -> str:
    """`ip:port`, with an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def _ready(status: Mapping[str, Any]) -> bool | None:
    value = _condition(status, "Ready").get("status")
    return None if value is None else value == "True"


def _lobby_container(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The status of the lobby's own container; others may have been injected."""
    return [
        each for each in status.get("containerStatuses") or () if each.get("name", LOBBY_CONTAINER) == LOBBY_CONTAINER
    ]


def _held(status: Mapping[str, Any]) -> Held | None:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return Held(Hold.UNSCHEDULABLE, line(scheduled.get("reason") or "not scheduled", scheduled.get("message")))
    for container in _lobby_container(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        hold = _HOLDS.get(waiting.get("reason", ""))
        if hold is not None:
            return Held(hold, line(waiting["reason"], waiting.get("message")))
    return None


def _problem(status: Mapping[str, Any], *, ended: bool) -> str:
    if ended and status.get("reason"):  # Evicted, NodeLost: the node is the cause
        return line(status["reason"], status.get("message"))
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        if terminated := state.get("terminated"):
            signal, code = terminated.get("signal"), terminated.get("exitCode")
            how = f"signal {signal}" if signal else f"exit code {code}"
            return line(f"{terminated.get('reason') or 'ended'} ({how})", terminated.get("message"))
        waiting = state.get("waiting") or {}
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return line(waiting["reason"], waiting.get("message"))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return line(scheduled.get("reason") or "not scheduled", scheduled.get("message"))
    return ""


def line(reason: str, message: str | None) -> str:
    """A reason and a message on one line, not too long."""
    text = " ".join(f"{reason}: {message}".split()) if message else reason
    return text if len(text) <= _MAX_POD_PROBLEM else text[: _MAX_POD_PROBLEM - 3] + "..."
