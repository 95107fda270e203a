"""The pod of a lobby, from the API's JSON to what the lobby host knows of a lobby. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lobby_gateway.process.reports import LobbyReport
from lobby_operator.kube import names
from lobby_operator.planner.state import LobbyReading, PollResult

_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What matters of a lobby's pod. A whole pod is 10 KiB as JSON, and there may be thousands.

    Attributes:
        name: of the pod, and of the lobby.
        uid: of the pod.
        owner: uid of the Lobby that it belongs to; empty: of none.
        created: when it was made, in seconds since 1970.
        node: where it was put; empty until it is known.
        ip: its address; empty until it has one.
        started: its kubelet says that its process has answered.
        ready: what its kubelet (or, of a lost node, Kubernetes) found; None: nothing yet.
        draining: it is marked as draining.
        ending: it was deleted and is still there.
        ended: its process is over.
        revision: what it was made from.
        config: digest of the live configuration that its kubelet was last told of.
        safe_to_evict: whether the cluster autoscaler may end it; None: nothing is said.
        problem: why it does not run, in a line for a person; empty: nobody says so.
    """

    name: str
    uid: str
    owner: str = ""
    created: float = 0.0
    node: str = ""
    ip: str = ""
    started: bool = False
    ready: bool | None = None
    draining: bool = False
    ending: bool = False
    ended: bool = False
    revision: str = ""
    config: str = ""
    safe_to_evict: bool | None = None
    problem: str = ""

    @property
    def serves(self) -> bool:
        """It was not told to go, and is not gone."""
        return not (self.draining or self.ending or self.ended)


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Reads a pod as the API gives it.

    Raises:
        KeyError, ValueError: it is no pod.
    """
    metadata = pod["metadata"]
    status = pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    safe = annotations.get(names.SAFE_TO_EVICT_ANNOTATION)
    ended = status.get("phase") in _OVER
    return PodState(
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        owner=owner_of(metadata),
        created=datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00")).timestamp(),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        ip=str(status.get("podIP") or ""),
        started=any(container.get("started") for container in status.get("containerStatuses") or ()),
        ready=_ready(status),
        draining=bool(annotations.get(names.DRAINING_ANNOTATION)),
        ending=bool(metadata.get("deletionTimestamp")),
        ended=ended,
        revision=str((metadata.get("labels") or {}).get(names.REVISION_LABEL, "")),
        config=str(annotations.get(names.CONFIG_ANNOTATION, "")),
        safe_to_evict=None if safe is None else safe == "true",
        problem=_problem(status, ended=ended),
    )


def owner_of(metadata: Mapping[str, Any]) -> str:
    """The uid of the controller that an object belongs to; empty: it belongs to none."""
    owners = metadata.get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def lobby_reading(
    pod: PodState, poll_result: PollResult[LobbyReport], created_at: float, *, was_up: bool = False
) -> LobbyReading:
    """What is known of a lobby.

    Args:
        pod: its pod.
        poll_result: what it said of itself last.
        created_at: when it was made, on the clock of the lobby host.
        was_up: it had started when the lobby host saw it first.
    """
    return LobbyReading(
        name=pod.name,
        created_at=created_at,
        address=authority(pod.ip, names.CLIENTS_PORT) if pod.ip else "",
        report=poll_result.report,
        unresponsive_since=poll_result.unresponsive_since,
        alive=pod.ready,
        was_up=was_up,
        draining=pod.draining,
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
    said = _condition(status, "Ready").get("status")
    return None if said is None else said == "True"


def _problem(status: Mapping[str, Any], *, ended: bool) -> str:
    if ended and status.get("reason"):  # Evicted, NodeLost: it was the node
        return _line(status["reason"], status.get("message"))
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        if over := state.get("terminated"):
            how = f"signal {over['signal']}" if over.get("signal") else f"exit code {over.get('exitCode')}"
            return _line(f"{over.get('reason') or 'ended'} ({how})", over.get("message"))
        waiting = state.get("waiting") or {}
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return _line(waiting["reason"], waiting.get("message"))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return _line(scheduled.get("reason") or "not scheduled", scheduled.get("message"))
    return ""


def _line(reason: str, message: str | None) -> str:
    text = " ".join(f"{reason}: {message}".split()) if message else reason
    return text if len(text) <= 300 else text[:297] + "..."
