"""Prometheus accepts the scrape configurations in the documentation, and they set the labels that the rules need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.helm import CHART
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "metrics.md"


def documented() -> list[str]:
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for text in found if "scrape_configs" in text]


def relabeled(text: str) -> list[dict[str, Any]]:
    (scrape,) = yaml.safe_load(text)["scrape_configs"]
    found: list[dict[str, Any]] = scrape.get("relabel_configs", [])
    return found


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)")
@pytest.mark.parametrize("text", documented(), ids=["cluster", "local"])
def test_prometheus_accepts_the_documented_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yaml"
    # Debian's Prometheus is made without the discovery of pods; the rest it can judge.
    path.write_text(text.replace("kubernetes_sd_configs:\n  - role: pod\n", "static_configs: []\n"))
    done = subprocess.run(
        ["promtool", "check", "config", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_scraping_without_the_prometheus_operator_sets_the_same_labels() -> None:
    monitor = (CHART / "templates" / "podmonitor.yaml").read_text()
    by_target = {each["target_label"]: each for each in relabeled(documented()[0]) if "target_label" in each}
    assert by_target.keys() == {
        "job",
        "namespace",
        "pod",
        "lobby",
    }  # the operator of Prometheus adds the middle two itself
    lobby = by_target["lobby"]
    for words in (
        f"[{', '.join(lobby['source_labels'])}]",
        f"separator: {lobby['separator']}",
        f"regex: {lobby['regex']}",
    ):
        assert words in monitor
    job = by_target["job"]["source_labels"][0].removeprefix("__meta_kubernetes_pod_label_")
    job_label = re.findall(r"jobLabel: (\S+)", monitor)[0]
    assert re.sub(r"\W", "_", job_label) == job
