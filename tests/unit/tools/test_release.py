"""Values that pin the images by the digests of the registry, with an engine that only says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tools.release import main

REGISTRY = "registry.example.com/team"

ENGINE = """#!{python}
import hashlib, json, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(*arguments, file=log)
if arguments[0] == {failing!r}:
    sys.exit("denied")
if arguments[:2] == ["image", "inspect"]:
    repository = arguments[-1].rpartition(":")[0]
    digest = "sha256:" + hashlib.sha256(repository.encode()).hexdigest()
    print(json.dumps(["elsewhere/" + repository + "@sha256:" + 64 * "0", repository + "@" + digest] if {known!r} else []))
"""


def engine(folder: Path, *, failing: str = "", known: bool = True) -> Path:
    made = folder / "engine"
    made.write_text(ENGINE.format(python=sys.executable, log=str(folder / "log"), failing=failing, known=known))
    made.chmod(0o755)
    return made


def release(folder: Path, made: Path) -> Path:
    file = folder / "dist" / "values.yaml"
    main([str(file), "--engine", str(made), "--registry", REGISTRY, "--tag", "1.2.3"])
    return file


def test_every_image_is_pushed_and_pinned_by_its_digest(tmp_path: Path) -> None:
    values = yaml.safe_load(release(tmp_path, engine(tmp_path)).read_text())
    assert set(values) == {"operator", "greeter", "lobby"}
    digests = set()
    for section, each in values.items():
        image = each["image"]
        wanted = (REGISTRY, f"lobby-gateway-{section}", "1.2.3")
        assert (image["registry"], image["repository"], image["tag"]) == wanted
        digests.add(image["digest"])
    assert len(digests) == 3
    assert all(digest.startswith("sha256:") and digest != f"sha256:{64 * '0'}" for digest in digests)
    log = (tmp_path / "log").read_text().splitlines()
    assert log[:2] == [
        f"tag lobby-gateway-operator:1.2.3 {REGISTRY}/lobby-gateway-operator:1.2.3",
        f"push {REGISTRY}/lobby-gateway-operator:1.2.3",
    ]


def test_no_values_are_written_if_an_image_was_not_pushed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        release(tmp_path, engine(tmp_path, failing="push"))
    with pytest.raises(
        LookupError, match=r"knows no digest of registry\.example\.com/team/lobby-gateway-operator:1\.2\.3$"
    ):
        release(tmp_path, engine(tmp_path, known=False))
    assert not (tmp_path / "dist").exists()
