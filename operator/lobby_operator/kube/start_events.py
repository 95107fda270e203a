"""What keeps a pod from starting, as the kubelet's Events say: only they name a Secret that is missing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lobby_gateway.origin.secrets import secret_references
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.pod_state import line
from lobby_operator.planner.state import Held, Hold

_NO_OBJECT = re.compile(r"\b(secret|configmap) \"([^\"]+)\" not found")
_NO_KEY = re.compile(r"references non-existent (secret|config) key: ([A-Za-z0-9._-]+)")
_VOLUME = re.compile(r"for volume \"([^\"]+)\"")
_KINDS = {"secret": "Secret", "configmap": "ConfigMap", "config": "ConfigMap"}
_SECONDARY = "Unable to attach or mount volumes"
"""Beginning of the kubelet's note that it waits for volumes; others say why."""


def secrets_by_key(lobby: Lobby, token_secret: str) -> Mapping[str, list[str]]:
    """The names of the Secrets that the pods of a Lobby mount, by key: the kubelet names only the key that is missing."""
    found: dict[str, dict[str, None]] = {names.TOKEN_KEY: {token_secret: None}}
    for each in secret_references(lobby.spec.origin):
        found.setdefault(each.key, {})[each.name] = None
    return {key: sorted(secrets) for key, secrets in found.items()}


def held_by(events: Iterable[Mapping[str, Any]], secrets: Mapping[str, list[str]]) -> Held | None:
    """What keeps a pod from starting, given the Events about it.

    Args:
        events: as in the API (events.k8s.io/v1), in any order.
        secrets: see `secrets_by_key`.
    """
    notes: dict[str, str] = {}  # the latest of each volume: an earlier one may be about something that is there now
    for event in sorted(events, key=_last_at, reverse=True):
        reason = event.get("reason")
        if reason == "FailedMount":
            note = str(event.get("note") or "")
            volume = _VOLUME.search(note)
            notes.setdefault(volume[1] if volume else note, note)
        elif reason == "Pulling" and not notes:
            return Held(Hold.IMAGE_PULL, line("pulling its image", None))
        elif reason in {"Pulled", "Created", "Started"}:
            break
    return _of_mounts(notes.values(), secrets) if notes else None


def _last_at(event: Mapping[str, Any]) -> str:
    """When it last happened. Times of one format are ordered as texts; a second more or less does not matter."""
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        metadata.get("creationTimestamp"),
    )
    return max((str(each) for each in times if each), default="")


def _of_mounts(notes: Iterable[str], secrets: Mapping[str, list[str]]) -> Held:
    problems: dict[str, None] = {}
    missing: dict[str, None] = {}
    waits_for_secret = False
    others: list[str] = []
    for note in notes:
        objects, keys = _NO_OBJECT.findall(note), _NO_KEY.findall(note)
        for kind, name in objects:
            problems[f"{_KINDS[kind]} {name} is missing"] = missing[name] = None
        for kind, key in keys:
            having = secrets.get(key, []) if kind == "secret" else []
            problems[f"key {key} is missing in {_KINDS[kind]} {' or '.join(having)}".rstrip()] = None
            missing |= dict.fromkeys(having)
        waits_for_secret |= any(kind == "secret" for kind, _ in (*objects, *keys))
        if not (objects or keys or note.startswith(_SECONDARY)):
            others.append(note)
    if problems:
        hold = Hold.SECRET_MISSING if waits_for_secret else Hold.VOLUME_UNAVAILABLE
        return Held(hold, line("; ".join(problems), None), tuple(missing))
    return Held(Hold.VOLUME_UNAVAILABLE, line(others[0] if others else "the kubelet cannot mount its volumes", None))
