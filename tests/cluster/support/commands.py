"""Commands that the tests run: kubectl, helm, and the build of images. Each has a deadline."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.support.environment import ENVIRONMENT, ROOT

DEADLINE = 60.0
BUILD_DEADLINE = 600.0


class CommandFailedError(AssertionError):
    """A command exited with a code other than 0.

    Attributes:
        output: its standard error and output.
    """

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"{command}: {output}")
        self.output = output


def run(*command: str, stdin: str = "", deadline: float = DEADLINE, folder: Path = ROOT) -> str:
    """Runs a command in a folder; returns its standard output.

    Raises:
        CommandFailedError: it failed or timed out.
    """
    shown = shlex.join(command)[:300]
    env = {**os.environ, "KUBECONFIG": ENVIRONMENT.kubeconfig}
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=deadline, check=False, cwd=folder, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(shown, f"did not end within {deadline:g} s") from error
    if done.returncode:
        raise CommandFailedError(shown, f"exit code {done.returncode}\n{done.stderr[-3000:]}\n{done.stdout[-1000:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str = "", deadline: float = DEADLINE) -> str:
    """Runs `kubectl`; returns its output."""
    return run("kubectl", *arguments, stdin=stdin, deadline=deadline)


def apply(*resources: dict[str, Any], namespace: str) -> str:
    """`kubectl apply` of resources."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources)})
    return kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)


def helm(*arguments: str, deadline: float = 180.0) -> str:
    """Runs `helm`; returns its output."""
    return run("helm", *arguments, deadline=deadline)


def build_and_load(tag: str, *, file: str, stage: str = "", source: Path = ROOT) -> None:
    """Builds an image from one of the project's Dockerfiles, in a folder with its source, and loads it onto the nodes."""
    target = f"--target={stage}" if stage else ""
    for template in (ENVIRONMENT.build, ENVIRONMENT.load):
        command = shlex.split(template.format(tag=tag, file=file, target=target))
        run(*command, deadline=BUILD_DEADLINE, folder=source)
