"""Pushes the images and writes values of the chart that pin them by digest: `python -m tools.release`, run by `make release`.

A tag may be moved to another image; a digest can't.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml
from tools.sbom import IMAGES


def push(engine: str, image: str, registry: str, tag: str) -> str:
    """Pushes an image; returns the digest under which the registry has it.

    Args:
        engine: docker or podman.
        image: its name.
        registry: where to push it, without the name.
        tag: its tag.

    Raises:
        LookupError: the engine does not say the digest.
        subprocess.CalledProcessError: the engine failed; it has said why.
    """
    repository = f"{registry}/{image}"
    pushed = f"{repository}:{tag}"
    for command in (["tag", f"{image}:{tag}", pushed], ["push", pushed]):
        subprocess.run([engine, *command], check=True)  # noqa: S603
    inspect = [engine, "image", "inspect", "--format", "{{json .RepoDigests}}", pushed]
    done = subprocess.run(inspect, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    for each in json.loads(done.stdout):
        name, _, digest = each.partition("@")
        if name == repository:
            return str(digest)
    raise LookupError(f"{engine} knows no digest of {pushed}")


def main(arguments: list[str] | None = None) -> None:
    """Pushes all images, and writes the file with the values."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.release", description="Push the images and pin them by digest."
    )
    parser.add_argument("file", type=Path, help="file for the values")
    parser.add_argument("--engine", required=True, help="docker or podman")
    parser.add_argument("--registry", required=True, help="such as registry.example.com/team")
    parser.add_argument("--tag", required=True, help="tag of the images")
    given = parser.parse_args(arguments)
    values = {
        image.removeprefix("lobby-gateway-"): {
            "image": {
                "registry": given.registry,
                "repository": image,
                "tag": given.tag,
                "digest": push(given.engine, image, given.registry, given.tag),
            }
        }
        for image in IMAGES
    }
    given.file.parent.mkdir(parents=True, exist_ok=True)
    given.file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    sys.stdout.write(f"{given.file}\n")


if __name__ == "__main__":
    main()
