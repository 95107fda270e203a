"""The images of the project, built from its Dockerfiles once per session and loaded onto the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.support.commands import build_and_load
from tests.cluster.support.environment import ROOT

OPERATOR = ("lobby-gateway-operator", "operator/Dockerfile", "")
LOBBY = ("lobby-gateway-lobby", "gateway/Dockerfile", "lobby")
GREETER = ("lobby-gateway-greeter", "gateway/Dockerfile", "greeter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Names of built images, all with one tag.

    Attributes:
        tag: their tag.
    """

    tag: str

    @property
    def operator(self) -> str:
        """The operator's image."""
        return f"{OPERATOR[0]}:{self.tag}"

    @property
    def lobby(self) -> str:
        """A lobby's image, which includes the ticker."""
        return f"{LOBBY[0]}:{self.tag}"

    @property
    def greeter(self) -> str:
        """The greeter's image."""
        return f"{GREETER[0]}:{self.tag}"

    def build(self, source: Path = ROOT) -> None:
        """Builds the images from the source in a folder, and loads them."""
        for name, file, stage in (OPERATOR, LOBBY, GREETER):
            build_and_load(f"{name}:{self.tag}", file=file, stage=stage, source=source)

    def settings(self) -> list[str]:
        """Options of Helm that choose these images."""
        return [f"--set={each}.image.tag={self.tag}" for each in ("operator", "greeter", "lobby")]
