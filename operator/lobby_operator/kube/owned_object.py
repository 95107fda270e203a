"""Objects that the operator writes beside pods, and never if someone else made the object of that name.

Their names follow from a Lobby's name or from a setting, so a user may have an object of that name already. It is theirs:
overwriting would destroy it at once, and an owner reference would delete it with the Lobby.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.client import ConflictError, KubeApi, NotFoundError
from lobby_operator.kube.names import Object, Resource
from lobby_operator.kube.pod_state import owner_of
from lobby_operator.reconcile.runtime import RuntimeFailedError


class NameTakenError(RuntimeFailedError):
    """Someone else's object has the name that one of ours must have."""


def belongs_to(lobby: Lobby, metadata: Mapping[str, Any]) -> bool:
    """Whether a Lobby owns an object.

    An object without a controller that has our labels was this Lobby's, too: `kubectl delete --cascade=orphan` removes the
    owner references and leaves the labels.
    """
    owner = owner_of(metadata)
    if owner:
        return owner == lobby.uid
    return bool(names.owned_metadata(lobby, "")["labels"].items() <= (metadata.get("labels") or {}).items())


class OwnedObject:
    """One object that this process creates and keeps up to date.

    Args:
        api: access to the API.
        resource: its kind.
        namespace: its namespace.
        name: its name.
        is_ours: whether an existing object with this metadata may be overwritten.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        namespace: str,
        name: str,
        is_ours: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._name = name
        self._is_ours = is_ours
        self._uid = ""  # of the existing object, which is ours

    @property
    def uid(self) -> str:
        """The uid of the object as this process last saw it; empty: there is none, or it is not ours."""
        return self._uid

    def forget(self) -> None:
        """Someone may have deleted it."""
        self._uid = ""

    async def read(self) -> Object | None:
        """The object as it is stored; None: there is none.

        Raises:
            NameTakenError: it is not ours.
            ApiError: it can't be read now.
        """
        try:
            stored = await self._api.get(self._resource, self._namespace, self._name)
        except NotFoundError:
            self._uid = ""
            return None
        if not self._is_ours(stored["metadata"]):
            self._uid = ""
            raise NameTakenError(
                f"the {self._resource.kind} {self._name} in namespace {self._namespace} was created by someone else, so it "
                f"is not changed; accepted: no {self._resource.kind} of that name"
            )
        self._uid = stored["metadata"]["uid"]
        return stored

    async def write(self, manifest: Object) -> None:
        """Creates the object, or makes it as the manifest says.

        Raises:
            NameTakenError: there is one that is not ours.
            ApiError: it can't be written now.
        """
        if self._uid:
            try:
                await self._apply(manifest)
            except (ConflictError, NotFoundError):
                self._uid = ""  # it was deleted, and perhaps created again by someone else
            else:
                return
        if await self.read() is None:
            created = await self._api.create(self._resource, self._namespace, manifest)
            self._uid = created["metadata"]["uid"]
        else:
            await self._apply(manifest)

    async def _apply(self, manifest: Object) -> None:
        """Applies the manifest to the object that is known to be ours: its uid is a precondition."""
        metadata = {**manifest["metadata"], "uid": self._uid}
        await self._api.apply(self._resource, self._namespace, self._name, {**manifest, "metadata": metadata})
