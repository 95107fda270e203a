"""The alert rules of the chart: each fires exactly when it should, and uses existing metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.alert_cases import CASES, Case, Series
from tests.support.processes import ROOT
from tests.support.promql import check

from lobby_operator.planner.reasons import CONDITIONS, ConditionType

RULES = ROOT / "charts" / "lobby-gateway" / "rules" / "lobby-gateway.yaml"
QUIET = range(1, 60, 3)  # minutes

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


ALERTS = alerts()


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def inputs(series: Series) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def expected(name: str, case: Case) -> dict[str, Any]:
    rule = ALERTS[name]
    annotations = {**rule["annotations"], "summary": case.summary}
    if case.description:
        annotations["description"] = case.description
    return {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}


def promtool_tests(name: str, case: Case) -> list[dict[str, Any]]:
    fires = [{"alertname": name, "eval_time": case.at, "exp_alerts": [expected(name, case)]}]
    if case.not_yet:
        fires.append({"alertname": name, "eval_time": case.not_yet, "exp_alerts": []})
    never = [{"alertname": name, "eval_time": f"{minute}m", "exp_alerts": []} for minute in QUIET]
    return [
        {"interval": "30s", "input_series": inputs(case.fires), "alert_rule_test": fires},
        *({"interval": "30s", "input_series": inputs(series), "alert_rule_test": never} for series in case.quiet),
    ]


def promtool_test(name: str, tests: list[dict[str, Any]], folder: Path) -> None:
    """Tests a single rule, which takes a tenth of the time of testing all."""
    rules, path = folder / "rules.yaml", folder / "test.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [ALERTS[name]]}]}))
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "30s", "tests": tests}))
    promtool("test", "rules", path)


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_alert_fires_exactly_when_it_should(name: str, tmp_path: Path) -> None:
    promtool_test(name, promtool_tests(name, CASES[name]), tmp_path)


@needs_promtool
def test_no_operator_at_all_means_no_leader(tmp_path: Path) -> None:
    case = replace(CASES["LobbyNoLeader"], fires={}, labels={}, quiet=())
    promtool_test("LobbyNoLeader", promtool_tests("LobbyNoLeader", case), tmp_path)


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == ALERTS.keys()
    assert all(case.quiet for case in CASES.values())


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_a_severity_and_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "action"}
    assert all(text.endswith((".", "?")) for text in rule["annotations"].values())
    assert rule["for"]


def test_every_reason_for_missing_seats_has_an_alert() -> None:
    found = {reason.name for reason in CONDITIONS if reason.kind is ConditionType.READY and reason.status == "False"}
    named = " ".join(rule["expr"] for rule in ALERTS.values() if "lobby_operator_condition" in rule["expr"])
    assert found <= set(re.findall(r"\w+", named))


@pytest.mark.parametrize("name", ALERTS)
def test_alert_uses_existing_metrics_and_values(name: str) -> None:
    check(ALERTS[name]["expr"])
