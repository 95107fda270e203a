"""The SBOMs of the images: exactly what is installed, with hashes, and the same bytes every time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tools.sbom import IMAGES, base_image, document, main

PINNED = f"registry.example.com/python:3.12.4-slim@sha256:{'a' * 64}"


def libraries(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in made["components"] if each["type"] == "library"}


def test_base_image_is_pinned_by_digest() -> None:
    assert re.fullmatch(r"python:3\.13-slim@sha256:[0-9a-f]{64}", base_image())


@pytest.mark.parametrize("image", ["lobby-gateway-lobby", "lobby-gateway-greeter"])
def test_images_of_the_data_plane_list_their_packages_and_the_project(image: str) -> None:
    made = document(image, tag="1.2.3", base=PINNED)
    assert set(libraries(made)) == {
        "common-expression-language",
        "h11",
        "prometheus-client",
        "cryptography",
        "cffi",
        "pycparser",
        "websockets",
        "lobby-gateway",
    }
    root = made["metadata"]["component"]
    assert (root["type"], root["name"], root["version"]) == ("container", image, "1.2.3")


def test_operator_lists_the_kubernetes_client_and_nothing_for_other_systems() -> None:
    found = libraries(document("lobby-gateway-operator", tag="dev", base=PINNED))
    assert {"kubernetes", "aiohttp", "pyyaml"} <= set(found)
    assert not {"colorama", "pytest", "mypy"} & set(found)


def test_packages_have_their_address_and_the_hashes_of_the_lock_file() -> None:
    h11 = libraries(document("lobby-gateway-lobby", tag="dev", base=PINNED))["h11"]
    assert h11["purl"] == f"pkg:pypi/h11@{h11['version']}"
    hashes = [each["content"] for reference in h11["externalReferences"] for each in reference["hashes"]]
    assert hashes
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize(
    ("base", "name", "purl"),
    [
        (PINNED, "registry.example.com/python", f"pkg:oci/python@sha256%3A{'a' * 64}?tag=3.12.4-slim"),
        ("python:3.13-slim", "python", "pkg:oci/python?tag=3.13-slim"),
        ("localhost:5000/base", "localhost:5000/base", "pkg:oci/base?tag=latest"),
    ],
)
def test_base_image_is_a_component(base: str, name: str, purl: str) -> None:
    made = document("lobby-gateway-lobby", tag="dev", base=base)
    (container,) = (each for each in made["components"] if each["type"] == "container")
    assert (container["name"], container["purl"]) == (name, purl)


@pytest.mark.parametrize("image", IMAGES)
def test_every_dependency_is_a_component(image: str) -> None:
    made = document(image, tag="dev", base=PINNED)
    known = {each["bom-ref"] for each in (made["metadata"]["component"], *made["components"])}
    assert {each["ref"] for each in made["dependencies"]} == known
    used = {ref for each in made["dependencies"] for ref in each["dependsOn"]}
    assert used == known - {made["metadata"]["component"]["bom-ref"]}


def test_same_sources_give_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        main([str(tmp_path / folder), "--tag", "1.2.3"])
    names = [f"{image}-1.2.3.cdx.json" for image in IMAGES]
    files = [str(tmp_path / folder / name) for folder in ("one", "two") for name in names]
    assert capsys.readouterr().out.split() == files
    for name in names:
        text = (tmp_path / "one" / name).read_bytes()
        assert text == (tmp_path / "two" / name).read_bytes()
        assert json.loads(text)["bomFormat"] == "CycloneDX"
