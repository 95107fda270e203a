"""`python -m lobby_operator.kube.crd`: upgrades the cluster's CustomResourceDefinition of Lobby to this version.

Helm installs a CRD once and never upgrades it; a hook of the chart runs this at each install and upgrade.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lobby_gateway.errors import UserError
from lobby_gateway.process import logs
from lobby_gateway.process.arguments import ArgumentParser
from lobby_gateway.resource.schema import crd
from lobby_operator.kube.client import ApiError, KubeApi, NotFoundError, connect
from lobby_operator.kube.names import Resource

logger = logging.getLogger("lobby_operator.kube.crd")  # it runs as __main__

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")

RETRY: Final = os.EX_TEMPFAIL
"""Exit code, at which the chart's Job tries again. Not 1, with which Python ends if there is no such module."""

_PARTS: Final = (("metadata", "labels"), ("spec", "names"), ("spec", "versions"))


async def upgrade(api: KubeApi, desired: Mapping[str, Any]) -> bool:
    """Sets labels and spec of the cluster's definition to ours; returns whether that changed anything.

    Uses a merge patch, which replaces lists: fields and rules that a version dropped disappear from `spec.versions`.
    Server-side apply would keep what Helm, another field manager, had set.

    Args:
        api: access to the API.
        desired: our definition.

    Raises:
        UserError: the cluster has no definition yet.
        ApiError: the server rejected the change or could not be reached.
    """
    name: str = desired["metadata"]["name"]
    body = {"metadata": {"labels": desired["metadata"].get("labels", {})}, "spec": desired["spec"]}
    try:
        before = await api.get(CRDS, "", name)
        after = await api.patch(CRDS, "", name, body)
    except NotFoundError as error:
        raise UserError(
            f"the cluster has no CRD {name}; create it with: kubectl create -f crds/lobbies.yaml"
        ) from error
    return any(before[part].get(key) != after[part].get(key) for part, key in _PARTS)


async def _main(kubeconfig: str, desired: Mapping[str, Any]) -> None:
    api = await connect(kubeconfig)
    try:
        changed = await upgrade(api, desired)
    finally:
        await api.close()
    logger.info("upgraded the CRD of Lobby" if changed else "the CRD of Lobby is up to date")


def parser() -> ArgumentParser:
    """The command line."""
    command = ArgumentParser(
        prog="python -m lobby_operator.kube.crd",
        description="Upgrade the cluster's CustomResourceDefinition of Lobby to this version.",
    )
    command.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="kubeconfig file (KUBECONFIG, or in a pod its service account)"
    )
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Upgrades the definition; returns the exit code: 2 if a person has to act, `RETRY` if another attempt may succeed."""
    options = parser().parse_args(argv)
    logs.configure("crd")
    try:
        asyncio.run(_main(options.kubeconfig, crd()))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except ApiError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return RETRY
    return 0


if __name__ == "__main__":
    sys.exit(main())
