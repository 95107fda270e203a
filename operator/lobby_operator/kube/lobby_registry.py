"""The Lobbies on the server: the spec of each, which Lobby has which path, and which specs are invalid. Pure.

An edit may pass the CRD's validation and still be invalid, or ask for more than the policy of this cluster allows. Then the
last valid spec, if any, remains in force, and the status says what is wrong. An operator that starts then has not seen that
spec: `restore` takes it as an earlier one kept it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.list_watch import newer, object_key
from lobby_gateway.resource.schema import default_stored
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_operator.kube.policy import violations
from lobby_operator.kube.tenancy import Tenancy
from lobby_operator.planner.reasons import PATH_TAKEN, ConditionState
from lobby_operator.planner.status import PathClaim
from lobby_operator.settings import PolicySettings

_MAX_SPEC_PROBLEM = 1000
"""Characters of a problem. A condition's message may have 32 KiB, but people read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyRecord:
    """A Lobby as it is on the server.

    Attributes:
        key: `namespace/name`.
        uid: a different one means a different Lobby of the same name.
        version: its `resourceVersion`.
        generation: generation of the stored spec.
        created_at: creation time, RFC 3339.
        status: the stored status.
        lobby: the Lobby with its last valid spec; None: no valid spec is known.
        resource: what `lobby` was read from, with all defaults.
        problem: what is wrong with the stored spec; empty: it is valid.
        served: Lobbies of its namespace are served. If not, its spec is not read.
    """

    key: str
    uid: str
    version: str
    generation: int
    created_at: str
    status: Mapping[str, Any] = field(default_factory=dict)
    lobby: Lobby | None = None
    resource: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    served: bool = True

    @property
    def namespace(self) -> str:
        """Namespace of the Lobby."""
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Name of the Lobby."""
        return self.key.rpartition("/")[2]

    @property
    def age(self) -> tuple[str, str, str]:
        """Sort key, oldest first. Times are RFC 3339 in UTC; namespace and name make the order unique."""
        return (self.created_at, self.namespace, self.name)


class LobbyRegistry:
    """All Lobbies.

    Args:
        policy: what they may ask for.
        tenancy: what they may do.

    Attributes:
        synced: all Lobbies are known, so it is certain which one has a path.
    """

    def __init__(self, policy: PolicySettings, tenancy: Tenancy | None = None) -> None:
        self.synced = False
        self._policy = policy
        self._tenancy = tenancy or Tenancy()
        self._records: dict[str, LobbyRecord] = {}
        self._paths: dict[str, list[str]] = {}  # keys of the Lobbies that claim it, oldest first

    def __iter__(self) -> Iterator[LobbyRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> LobbyRecord | None:
        """The record of a Lobby."""
        return self._records.get(key)

    def update(self, resource: Mapping[str, Any]) -> set[str]:
        """Records a Lobby that was added or changed; returns the keys of all affected Lobbies.

        Raises:
            KeyError, TypeError: it has no name.
        """
        metadata = resource["metadata"]
        key = object_key(resource)
        if metadata.get("deletionTimestamp"):
            # Its dependents are being deleted; anything created for it now would delay that.
            return self.remove(key)
        affected = {key}
        before = self._records.get(key)
        if before is not None and before.uid != str(metadata["uid"]):
            affected |= self.remove(key)
            before = None
        record = _read(key, resource, before, self._policy, self._tenancy)
        self._records[key] = record
        old_path, path = _path(before), _path(record)
        if old_path != path:
            affected |= self._release_path(key, old_path) | self._claim_path(record, path)
        return affected

    def restore(self, key: str, resource: Mapping[str, Any]) -> set[str]:
        """Brings the last valid spec of an invalid Lobby in force, if it is still valid; returns keys as `update` does.

        Args:
            key: key of the Lobby.
            resource: the Lobby with that spec, and with the path at which it was served.
        """
        record = self._records.get(key)
        if record is None or record.lobby is not None or not record.served or resource["metadata"]["uid"] != record.uid:
            return set()
        spec = resource["spec"]
        asked = {**resource, "spec": {**spec, "path": self._tenancy.own_path(spec["path"], record.namespace)}}
        try:
            lobby, checked = _valid(asked, self._policy, self._tenancy)
        except InvalidLobbyError:
            return set()
        self._records[key] = restored = replace(record, lobby=lobby, resource=checked)
        return {key} | self._claim_path(restored, _path(restored))

    def status_written(self, resource: Mapping[str, Any]) -> None:
        """Records the server's answer to one of our writes, unless a newer version is known already."""
        record = self._records.get(object_key(resource))
        metadata = resource["metadata"]
        if (
            record is not None
            and record.uid == str(metadata["uid"])
            and newer(metadata["resourceVersion"], record.version)
        ):
            self._records[record.key] = replace(
                record, version=metadata["resourceVersion"], status=resource.get("status") or {}
            )

    def remove(self, key: str) -> set[str]:
        """Removes a Lobby that was deleted; returns keys as `update` does."""
        before = self._records.pop(key, None)
        return set() if before is None else {key} | self._release_path(key, _path(before))

    def refusal(self, resource: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> str:
        """Why a Lobby that is about to be stored would not be served, in the words of its conditions; empty: it would be.

        Args:
            resource: the Lobby.
            old: what is stored; None: it is new. What does not change the spec is not refused, whatever the spec is.

        Raises:
            KeyError, TypeError: it has no name.
        """
        metadata = {"uid": "", "resourceVersion": "0", **resource["metadata"]}
        if metadata.get("deletionTimestamp") or (old is not None and old.get("spec") == resource.get("spec")):
            return ""
        record = _read(object_key(resource), {**resource, "metadata": metadata}, None, self._policy, self._tenancy)
        return record.problem or self._path_refusal(record)

    def _path_refusal(self, record: LobbyRecord) -> str:
        """Why a Lobby can't have its path; a path that it has, or claims already, is not refused."""
        path = _path(record)
        claims = self._paths.get(path, [])
        if not self.synced or not claims or record.key in claims:
            return ""
        holder = self._records[claims[0]]
        name = holder.name if holder.namespace == record.namespace else holder.key
        if holder.age < record.age:
            return ConditionState(PATH_TAKEN, {"path": path, "other": name}).sentence
        return f"{path} belongs to the Lobby {name}, which would lose it"

    def claim(self, key: str) -> PathClaim:
        """The path at which a Lobby is served, or why it is not."""
        record = self._records[key]
        path = _path(record)
        owner = self._paths.get(path, [key])[0]
        if owner == key:
            return PathClaim(path, compared=self.synced)
        older = self._records[owner]
        return PathClaim(path, older.name if older.namespace == record.namespace else owner, compared=self.synced)

    def _release_path(self, key: str, path: str) -> set[str]:
        rest = [each for each in self._paths.pop(path, []) if each != key]
        if path and rest:
            self._paths[path] = rest
        return set(rest)

    def _claim_path(self, record: LobbyRecord, path: str) -> set[str]:
        if not path:
            return set()
        claims = {*self._paths.get(path, []), record.key}
        self._paths[path] = sorted(claims, key=lambda each: self._records[each].age)
        return claims


def _path(record: LobbyRecord | None) -> str:
    return record.lobby.spec.path if record is not None and record.lobby is not None else ""


def _read(
    key: str, resource: Mapping[str, Any], before: LobbyRecord | None, policy: PolicySettings, tenancy: Tenancy
) -> LobbyRecord:
    metadata = resource["metadata"]
    record = LobbyRecord(
        key=key,
        uid=str(metadata["uid"]),
        version=str(metadata["resourceVersion"]),
        generation=int(metadata.get("generation") or 0),
        created_at=str(metadata.get("creationTimestamp") or ""),
        status=resource.get("status") or {},
    )
    if before is not None and not newer(record.version, before.version):
        # The answer to one of our writes arrived before the watch showed an earlier version.
        record = replace(record, version=before.version, status=before.status)
    if not tenancy.serves(record.namespace):
        return replace(record, served=False)
    last = replace(record, lobby=before.lobby, resource=before.resource) if before is not None else record
    if before is not None and before.generation == record.generation:
        return replace(last, problem=before.problem)  # the common case: only the status changed
    try:
        lobby, checked = _valid(resource, policy, tenancy)
    except InvalidLobbyError as error:
        return replace(last, problem="; ".join(error.problems)[:_MAX_SPEC_PROBLEM])
    return replace(record, lobby=lobby, resource=checked, problem="")


def _valid(resource: Mapping[str, Any], policy: PolicySettings, tenancy: Tenancy) -> tuple[Lobby, Mapping[str, Any]]:
    """A Lobby, and the same as JSON with all defaults.

    Raises:
        InvalidLobbyError: it is invalid, or asks for more than is allowed.
    """
    try:
        checked = default_stored({**resource, "metadata": _identity(resource["metadata"])})
        lobby = tenancy.place(lobby_from_resource(checked))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The server enforces its schema, but another version of the schema may allow what this code can't read.
        raise InvalidLobbyError((f"spec: can't be read ({error!r})",)) from error
    if refused := [*violations(checked["spec"], policy), *tenancy.problems(lobby)]:
        raise InvalidLobbyError(tuple(refused))
    checked["spec"]["path"] = lobby.spec.path
    return lobby, checked


def _identity(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the metadata that identifies the Lobby and changes only with the spec."""
    return {name: metadata[name] for name in ("name", "namespace", "uid", "generation") if name in metadata}
