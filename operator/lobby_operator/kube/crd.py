"""`python -m lobby_operator.kube.crd`: makes the cluster's definition of the resource Lobby the one that this operator knows.

Helm installs a CRD once and never upgrades it; a hook of the chart runs this at each install and upgrade.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lobby_gateway.errors import UserError
from lobby_gateway.process import logs
from lobby_gateway.process.arguments import ArgumentParser
from lobby_gateway.resource.schema import crd
from lobby_operator.kube.client import KubeApi, connect
from lobby_operator.kube.errors import ApiError, NotFoundError
from lobby_operator.kube.resources import Resource

logger = logging.getLogger("lobby_operator.kube.crd")  # it runs as __main__

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")

_PARTS: Final = (("metadata", "labels"), ("spec", "names"), ("spec", "versions"))


async def upgrade(api: KubeApi, wanted: Mapping[str, Any]) -> bool:
    """Gives the definition in the cluster the labels and the spec of ours; returns whether that changed anything.

    A merge patch, whose lists take the place of lists: fields and rules that a version dropped are gone from `spec.versions`.
    Server-side apply would leave what Helm, another field manager, had put there.

    Args:
        api: of the cluster.
        wanted: our definition.

    Raises:
        UserError: there is no definition yet, or the server doesn't let us change it.
        ApiError: it could not be reached.
    """
    name: str = wanted["metadata"]["name"]
    body = {"metadata": {"labels": wanted["metadata"].get("labels", {})}, "spec": wanted["spec"]}
    try:
        before = await api.get(CRDS, "", name)
        after = await api.patch(CRDS, "", name, body)
    except NotFoundError as error:
        raise UserError(f"there is no {name} in the cluster; accepted: kubectl create -f crds/lobbies.yaml") from error
    return any(before[part].get(key) != after[part].get(key) for part, key in _PARTS)


async def _main(kubeconfig: str, wanted: Mapping[str, Any]) -> None:
    api = await connect(kubeconfig)
    try:
        changed = await upgrade(api, wanted)
    finally:
        await api.close()
    logger.info("the definition of Lobby is upgraded" if changed else "the definition of Lobby is as it should be")


def parser() -> ArgumentParser:
    """The command line."""
    made = ArgumentParser(
        prog="python -m lobby_operator.kube.crd", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--kubeconfig", default="", metavar="FILE", help="KUBECONFIG, or what a pod is given")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Upgrades the definition; returns the exit code: 2 where a person has to do something, 1 where trying again may do."""
    given = parser().parse_args(argv)
    logs.configure("crd")
    try:
        asyncio.run(_main(given.kubeconfig, crd()))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except ApiError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
