"""Builds Lobby.status, as `crds/lobbies.yaml` defines it, from an observation and a plan.

Pure: the time and the previous status are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lobby_gateway.process.seat_reports import OriginState
from lobby_operator.planner import reasons
from lobby_operator.planner.actions import Create
from lobby_operator.planner.plan import Plan
from lobby_operator.planner.reasons import ConditionReason, ConditionState
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase

MAX_LISTED = 150
"""Most entries in each of the lists `lobbies`, `open` and `draining`, which keeps a status below 64 KiB: it is sent to
every greeter at each change. Open lobbies are listed in order, so those left out would be tried last anyway."""

_MAX_ORIGIN_PROBLEM = 200  # characters of an origin's problem
_MAX_FAILURE = 1000  # characters of a failure; the API server names fields and quotas
_ANSWERING = (Phase.READY, Phase.RECOVERING, Phase.DRAINING, Phase.ENDING)
_LOST = (OriginState.REFUSED, OriginState.WAITING)
_EXISTING = (Phase.STARTING, Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE, Phase.DRAINING)


@dataclass(frozen=True, slots=True)
class PathClaim:
    """A Lobby's claim to a path.

    Attributes:
        path: the path.
        older: name of an older Lobby that has this path; empty if there is none.
        compared: the other Lobbies are known.
    """

    path: str
    older: str = ""
    compared: bool = True


def lobby_status(
    spec: PlannerSpec,
    observed: Observed,
    planned: Plan,
    *,
    claim: PathClaim,
    at: str,
    url: str = "",
    previous: Mapping[str, Any] | None = None,
    selector: str = "",
    problem: str = "",
    invalid: str = "",
    last_valid: Mapping[str, Any] | None = None,
    connects_until: str = "",
) -> dict[str, Any]:
    """The complete status. Fields that do not apply now are left out, so a patch has to remove them.

    Args:
        spec: desired state.
        observed: observed state.
        planned: the plan made from it.
        claim: path of the Lobby.
        at: the time now, RFC 3339 in UTC, as Kubernetes writes it.
        url: URL at which clients reach the greeters, without a path; empty if it is not known.
        previous: the current status; a condition whose status stays the same keeps its `lastTransitionTime`.
        selector: label selector of its pods; empty if it has none.
        problem: why a planned action failed; empty if none did.
        invalid: what is invalid about the stored spec, so that an earlier one remains in force; empty if it is valid.
        last_valid: that earlier spec as JSON, without what may be secret: greeters go by it, also those that start now.
        connects_until: until when attempts to connect of lobbies that are gone count; empty: none do.
    """
    scaling = planned.scaling
    if problem:
        scaling = ConditionState(reasons.SCALING_FAILING, {"problem": problem[:_MAX_FAILURE]})
    if invalid:
        scaling = ConditionState(reasons.SCALING_INVALID, {"problem": invalid[:_MAX_FAILURE]})
    draining = observed.in_phase(Phase.DRAINING)
    ready = observed.in_phase(Phase.READY)
    origin = _origin(observed)
    can_enter = _ready(spec, observed, planned, claim, scaling)
    status: dict[str, Any] = {
        "observedGeneration": spec.generation,
        "path": claim.path,
        "replicas": len(observed.in_phase(*_EXISTING)),
        "readyReplicas": len(ready),
        "clients": sum(lobby.clients for lobby in observed.in_phase(*_ANSWERING)),
        "seats": sum(lobby.seats for lobby in ready),
        "open": [_open(lobby) for lobby in planned.open[:MAX_LISTED]],
        "draining": [lobby.name for lobby in draining[:MAX_LISTED]],
        "lobbies": [_lobby(lobby) for lobby in observed.in_phase(*_EXISTING, Phase.ENDING)[:MAX_LISTED]],
        "origin": {
            "connected": origin.reason.status == reasons.TRUE,
            "connections": sum(
                lobby.origin is not None and lobby.origin.state is OriginState.CONNECTED
                for lobby in _reporting(observed)
            ),
        },
        "conditions": _conditions(
            _with_kstatus((can_enter, origin, scaling, _path(claim)), observed, early=planned.early),
            spec.generation,
            previous,
            at,
        ),
    }
    if last_valid is not None:
        status["lastValidSpec"] = {**last_valid, "template": {}}  # which greeters have no use for
    if connects_until:
        status["origin"]["connectsUntil"] = connects_until
    if url:
        status["url"] = f"{url.rstrip('/')}{claim.path}"
    if planned.latest is not None:
        status["latest"] = _open(planned.latest)
    if selector:
        status["selector"] = selector
    return status


def invalid_spec_status(
    generation: int, invalid: str, *, at: str, previous: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The status of a Lobby whose spec was never valid: its lobbies, if it has any, are left alone.

    Args:
        generation: generation of the spec.
        invalid: what is invalid about it.
        at: as in `lobby_status`.
        previous: the current status. Its lobbies keep serving, and greeters keep sending clients to them.
    """
    previous = previous or {}
    scaling = ConditionState(reasons.SCALING_INVALID, {"problem": invalid[:_MAX_FAILURE]})
    found = _with_kstatus((ConditionState(reasons.READY_INVALID), scaling), Observed())
    replaced = {finding.reason.kind.value for finding in found}
    others = [each for each in previous.get("conditions") or () if each["type"] not in replaced]
    conditions = [*_conditions(found, generation, previous, at), *others]
    order = {kind.value: number for number, kind in enumerate(reasons.ConditionType)}
    conditions.sort(key=lambda condition: order.get(condition["type"], len(order)))
    return {**previous, "observedGeneration": generation, "conditions": conditions}


def not_served_status(
    namespace: str, generation: int, *, at: str, previous: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The status of a Lobby in a namespace whose Lobbies are not served: nothing is open. Its lobbies, if any, are left alone.

    Args:
        namespace: its namespace.
        generation: generation of the spec.
        at: as in `lobby_status`.
        previous: the current status. Which lobbies there were, and until when attempts to connect count, stays: an operator
            that serves the namespace again goes by it.
    """
    previous = previous or {}
    path = ConditionState(reasons.PATH_NOT_SERVED, {"namespace": namespace})
    found = _with_kstatus((ConditionState(reasons.READY_NOT_SERVED), path), Observed())
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": _conditions(found, generation, previous, at),
    }
    if lobbies := previous.get("lobbies"):
        status["lobbies"] = [{"name": each["name"], "phase": each["phase"]} for each in lobbies]
    if until := (previous.get("origin") or {}).get("connectsUntil"):
        status["origin"] = {"connectsUntil": until}
    return status


def _open(lobby: LobbyState) -> dict[str, Any]:
    return {"name": lobby.name, "address": lobby.address, "clients": lobby.clients, "seats": lobby.seats}


def _lobby(lobby: LobbyState) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": lobby.name, "phase": lobby.phase.value}
    entry |= {"clients": lobby.clients, "seats": lobby.seats}
    if lobby.origin is not None:
        entry["origin"] = lobby.origin.state.value
    if lobby.stream is not None and lobby.stream.via:
        entry["via"] = list(lobby.stream.via)
    return entry


def _ready(
    spec: PlannerSpec, observed: Observed, planned: Plan, claim: PathClaim, scaling: ConditionState
) -> ConditionState:
    if claim.older:
        return ConditionState(reasons.READY_NO_PATH)
    if scaling.reason is reasons.SCALING_INVALID:
        return ConditionState(reasons.READY_INVALID)
    outdated = _outdated(observed)
    if outdated and scaling.reason.status == reasons.FALSE and scaling.reason is not reasons.SCALING_LIMITED:
        return ConditionState(reasons.READY_ROLLOUT_FAILS, {"count": outdated})
    if planned.open:
        free = sum(lobby.free for lobby in planned.open)
        return ConditionState(reasons.READY, {"free": free, "open": len(planned.open)})
    if planned.silent:
        return ConditionState(reasons.READY_UNREACHABLE, {"count": len(planned.silent)})
    starting = len(observed.in_phase(Phase.STARTING))
    creating = sum(isinstance(action, Create) for action in planned.actions)
    if observed.failures.count:
        return ConditionState(reasons.READY_FAILING, {"failures": observed.failures.count})
    if creating and scaling.reason is reasons.SCALING_FAILING and not starting:
        return ConditionState(reasons.READY_NOT_CREATED)
    if scaling.reason in reasons.SCALING_HELD.values():
        return ConditionState(reasons.READY_HELD, {"starting": starting})
    if starting or creating:
        return ConditionState(reasons.READY_STARTING, {"starting": starting + creating})
    unresponsive = len(observed.in_phase(Phase.UNRESPONSIVE, Phase.RECOVERING))
    if unresponsive:
        return ConditionState(reasons.READY_UNRESPONSIVE, {"unresponsive": unresponsive})
    existing = observed.in_phase(*_EXISTING, Phase.ENDING)
    if len(existing) >= spec.max_replicas:
        leaving = [lobby for lobby in existing if lobby.phase is not Phase.READY or lobby.free]
        if leaving:
            fields = {"leaving": len(leaving), "maximum": spec.max_replicas}
            return ConditionState(reasons.READY_DRAINING, fields)
        seats = sum(lobby.seats for lobby in existing)
        return ConditionState(reasons.READY_FULL, {"seats": seats, "maximum": spec.max_replicas})
    return ConditionState(reasons.READY_ON_REQUEST if existing else reasons.READY_AT_ZERO)


def _outdated(observed: Observed) -> int:
    return sum(lobby.outdated for lobby in observed.in_phase(*_EXISTING))


def _with_kstatus(
    found: tuple[ConditionState, ...], observed: Observed, *, early: bool = False
) -> list[ConditionState]:
    """Adds what tools such as Flux, Argo CD and `kubectl wait` go by: Reconciling and Stalled, as kstatus defines them.

    What keeps a lobby from starting may pass by itself if it is `early`: a Secret is on its way.
    """
    passing = reasons.SCALING_HELD.values() if early else ()
    causes = [each for each in found if each.reason in reasons.STALLED and each.reason not in passing]
    if causes:
        stalled = ConditionState(reasons.STALLED[causes[0].reason], {"problem": causes[0].sentence})
        return [*found, ConditionState(reasons.RECONCILING_STALLED), stalled]
    return [*found, _reconciling(found, _outdated(observed)), ConditionState(reasons.NOT_STALLED)]


def _reconciling(found: tuple[ConditionState, ...], outdated: int) -> ConditionState:
    by_kind = {each.reason.kind: each for each in found}
    ready, scaling = by_kind[reasons.ConditionType.READY], by_kind[reasons.ConditionType.SCALING]
    if scaling.reason is reasons.SCALING_FAILING:
        return ConditionState(reasons.RECONCILING_RETRY, {"problem": scaling.sentence})
    if outdated:
        return ConditionState(reasons.RECONCILING_ROLLOUT, {"count": outdated})
    if ready.reason.status != reasons.TRUE and ready.reason is not reasons.READY_FULL:
        return ConditionState(reasons.RECONCILING_START, {"problem": ready.sentence})
    return ConditionState(reasons.RECONCILED)


def _reporting(observed: Observed) -> list[LobbyState]:
    """Lobbies whose origin connection counts."""
    return [lobby for lobby in observed.in_phase(*_ANSWERING) if lobby.origin is not None]


def _origin(observed: Observed) -> ConditionState:
    reporting = _reporting(observed)
    if not reporting:
        return ConditionState(reasons.ORIGIN_NO_LOBBY)
    by_state: dict[OriginState, list[LobbyState]] = {}
    for lobby in reporting:
        if lobby.origin is not None:
            by_state.setdefault(lobby.origin.state, []).append(lobby)
    connected = by_state.get(OriginState.CONNECTED, [])
    lost = [lobby for lobby in reporting if lobby.origin is not None and lobby.origin.state in _LOST]
    relayed = [lobby for lobby in reporting if connected and lobby.stream is not None and lobby.stream.relayed]
    for state, reason in ((OriginState.REFUSED, reasons.ORIGIN_REFUSED), (OriginState.WAITING, reasons.ORIGIN_LOST)):
        if noticed := [lobby for lobby in by_state.get(state, ()) if lobby not in relayed]:
            return _not_connected(reason, noticed)
    if lost:
        fields = {"connected": len(connected), "lobby": lost[0].name, "problem": _problem(lost[0])}
        return ConditionState(reasons.ORIGIN_RELAYED, fields)
    if failing := [lobby for lobby in connected if lobby.origin is not None and lobby.origin.reason]:
        fields = {"connected": len(connected), "count": len(failing), "lobby": failing[0].name}
        return ConditionState(reasons.ORIGIN_NOT_RENEWED, {**fields, "problem": _problem(failing[0])})
    if shared := sum(lobby.stream is not None and not lobby.stream.permit for lobby in relayed):
        return ConditionState(reasons.ORIGIN_SHARED, {"connected": len(connected), "count": shared})
    if connected:
        # Others may be connecting: every new lobby does at first, which is not worth an alert.
        return ConditionState(reasons.ORIGIN_CONNECTED, {"connected": len(connected)})
    if OriginState.CONNECTING in by_state:
        return ConditionState(reasons.ORIGIN_CONNECTING, {"lobby": by_state[OriginState.CONNECTING][0].name})
    if starved := sum(bool(lobby.clients) and _may_not_connect(lobby) for lobby in reporting):
        return ConditionState(reasons.ORIGIN_NO_PERMIT, {"count": starved})
    return ConditionState(reasons.ORIGIN_IDLE)


def _may_not_connect(lobby: LobbyState) -> bool:
    """Whether it has no stream, and others may have all connections that there may be."""
    return lobby.stream is not None and not (lobby.stream.permit or lobby.stream.flowing)


def _not_connected(reason: ConditionReason, lobbies: list[LobbyState]) -> ConditionState:
    return ConditionState(reason, {"count": len(lobbies), "lobby": lobbies[0].name, "problem": _problem(lobbies[0])})


def _problem(lobby: LobbyState) -> str:
    """Why it has no origin connection."""
    problem = (lobby.origin.reason if lobby.origin is not None else "") or "reason unknown"
    return problem[:_MAX_ORIGIN_PROBLEM]


def _path(claim: PathClaim) -> ConditionState:
    if not claim.compared:
        return ConditionState(reasons.PATH_UNKNOWN)
    if claim.older:
        return ConditionState(reasons.PATH_TAKEN, {"path": claim.path, "other": claim.older})
    return ConditionState(reasons.PATH_ACCEPTED, {"path": claim.path})


def _conditions(
    found: Iterable[ConditionState], generation: int, previous: Mapping[str, Any] | None, at: str
) -> list[dict[str, Any]]:
    before = {condition["type"]: condition for condition in (previous or {}).get("conditions") or ()}
    conditions: list[dict[str, Any]] = []
    for finding in found:
        reason = finding.reason
        last = before.get(reason.kind.value)
        same = last is not None and last["status"] == reason.status
        conditions.append(
            {
                "type": reason.kind.value,
                "status": reason.status,
                "observedGeneration": generation,
                "lastTransitionTime": last["lastTransitionTime"] if last is not None and same else at,
                "reason": reason.name,
                "message": finding.sentence,
            }
        )
    return conditions


def listed_lobbies(status: Mapping[str, Any]) -> frozenset[str] | None:
    """Names of all lobbies that a status lists; None: there were more."""
    listed = status.get("lobbies") or ()
    return None if len(listed) >= MAX_LISTED else frozenset(str(each["name"]) for each in listed)
