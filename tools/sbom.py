"""Writes an SBOM (CycloneDX 1.5) for each image: `python -m tools.sbom DIRECTORY --tag TAG`, run by `make images`.

It lists the Python packages that uv installs from uv.lock into the image, with their hashes, and the base image, whose digest
stands for the packages of its distribution. The same sources give the same bytes, without any network.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from tools.lock import ROOT, export

IMAGES: Mapping[str, tuple[str, ...]] = {
    "lobby-gateway-operator": ("--no-dev", "--extra", "operator"),
    "lobby-gateway-greeter": ("--only-group", "gateway"),
    "lobby-gateway-lobby": ("--only-group", "gateway"),
}
"""The images, and what the Dockerfiles let uv install into them."""


def base_image() -> str:
    """The base image that both Dockerfiles name."""
    names = {
        name
        for file in ("gateway/Dockerfile", "operator/Dockerfile")
        for name in re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    }
    (name,) = names
    return str(name)


def document(image: str, *, tag: str, base: str) -> dict[str, Any]:
    """The SBOM of an image.

    Args:
        image: one of `IMAGES`.
        tag: its tag.
        base: reference of its base image.
    """
    made: dict[str, Any] = json.loads(
        export(*IMAGES[image], "--format", "cyclonedx1.5", "--preview-features", "sbom-export")
    )
    project = made["metadata"]["component"]
    environment = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", **_python_version(base)}
    packages = [each for each in made["components"] if _installed(each, environment)]
    present = {each["bom-ref"] for each in (project, *packages)}
    container = {"type": "container", "bom-ref": f"{image}@{tag}", "name": image, "version": tag}
    under = _base_component(base)
    dependencies = [
        {"ref": each["ref"], "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in present]}
        for each in made["dependencies"]
        if each["ref"] in present
    ]
    if all(each["ref"] != project["bom-ref"] for each in dependencies):  # so with --only-group, which stands for it
        used = {ref for each in dependencies for ref in each["dependsOn"]}
        direct = [each["bom-ref"] for each in packages if each["bom-ref"] not in used]
        dependencies.append({"ref": project["bom-ref"], "dependsOn": direct})
    # uv's serial number and time would differ in every run.
    return {
        **{key: made[key] for key in ("bomFormat", "specVersion", "version")},
        "metadata": {"tools": made["metadata"]["tools"], "component": container},
        "components": [under, project, *packages],
        "dependencies": [
            {"ref": container["bom-ref"], "dependsOn": [under["bom-ref"], project["bom-ref"]]},
            {"ref": under["bom-ref"], "dependsOn": []},
            *dependencies,
        ],
    }


def _installed(component: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    markers = [each["value"] for each in component.get("properties", ()) if each["name"] == "uv:package:marker"]
    return all(Marker(each).evaluate(dict(environment)) for each in markers)


def _python_version(base: str) -> dict[str, str]:
    """The markers of Python's version, as far as the tag of the base image tells it."""
    found = re.search(r":(\d+\.\d+)(\.\d+)?", base)
    return {"python_version": found[1], "python_full_version": found[1] + (found[2] or ".0")} if found else {}


def _base_component(base: str) -> dict[str, Any]:
    name, _, digest = base.partition("@")
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    short = repository.rpartition("/")[2]
    purl = f"pkg:oci/{short}@{digest.replace(':', '%3A')}?tag={tag}" if digest else f"pkg:oci/{short}?tag={tag}"
    return {"type": "container", "bom-ref": base, "name": repository, "version": digest or tag, "purl": purl}


def main(arguments: list[str] | None = None) -> None:
    """Writes one file per image, and prints their names."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description="Write an SBOM for each image.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tag", default="dev", help="tag of the images (%(default)s)")
    parser.add_argument("--base", default="", help="base image (the one that the Dockerfiles name)")
    given = parser.parse_args(arguments)
    given.directory.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        file = given.directory / f"{image}-{given.tag}.cdx.json"
        made = document(image, tag=given.tag, base=given.base or base_image())
        file.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
