"""An operator in a process of its own, which a test may kill.

    python -m tests.support.operator_process TOKEN_KEY_FILE LOBBY_ADMIN_PORT [IDENTITY]

It runs the Lobbies of the namespace `shop` of the cluster that `KUBECONFIG` names. Unlike `python -m lobby_operator.kube` it
finds the admin ports of lobbies where a test has put them. The next process of an identity takes the Lease at once, as in a
pod that is restarted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lobby_gateway.process import lifecycle, logs
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.resource.schema import crd
from lobby_operator.kube.process import serve
from lobby_operator.settings import OperatorSettings, PodSettings


def main(key_file: str, lobby_admin_port: str, identity: str = "one") -> int:
    """Runs it; returns the exit code."""
    logs.configure("operator")
    crd()
    settings = OperatorSettings(
        pods=PodSettings(image="lobby:1", token_secret="token"),
        namespace="shop",
        own_namespace="system",
        identity=identity,
        token_key_file=Path(key_file),
        admin_host="127.0.0.1",
        admin_port=0,
        lobby_admin_port=int(lobby_admin_port),
    )

    async def operate(stopping: Shutdown) -> None:
        await serve(settings, stopping)

    return lifecycle.run(operate)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
