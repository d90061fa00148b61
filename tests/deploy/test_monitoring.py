"""The alerts and the dashboard: Prometheus accepts them, and they use metrics that Keyhole serves."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.pages import REFERENCE, ROOT
from tests.tools import need

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
TESTS = ALERTS.with_name("alerts.test.yml")
RULES = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "keyhole.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
#: The metrics in the table of the reference, which a test compares with the code.
METRICS = set(re.findall(r"^\| `(keyhole_\w+)` \|", REFERENCE["metrics"], re.MULTILINE))


def promtool(*words: str, folder: Path = ALERTS.parent) -> str:
    """Run promtool, and return its output. If it finds a fault, so does the test."""
    need("promtool", "prometheus")
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metrics(query: str) -> set[str]:
    """The metrics that a query reads. The series of a histogram have suffixes."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bkeyhole_\w+", query)}


def test_prometheus_accepts_the_alerts() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", ALERTS.name)


def test_each_alert_fires_and_does_not_fire_below_its_limit() -> None:
    promtool("test", "rules", TESTS.name)

    cases = {
        (one["alertname"], bool(one["exp_alerts"]))
        for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
        for one in test["alert_rule_test"]
    }
    assert cases == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


def test_prometheus_accepts_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in QUERIES]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8"
    )

    promtool("check", "rules", "rules.yml", folder=tmp_path)


def test_all_metrics_that_they_read_exist_and_the_dashboard_shows_nearly_all() -> None:
    of_alerts = set().union(*(metrics(rule["expr"]) for rule in RULES))
    of_dashboard = set().union(*map(metrics, QUERIES))

    assert len(METRICS) > 15
    assert of_alerts | of_dashboard <= METRICS
    assert METRICS - of_dashboard == {"keyhole_build_info", "keyhole_audits_running"}


def test_no_panel_of_the_dashboard_covers_another() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert max(place["x"] + place["w"] for place in places) == 24


def test_each_alert_says_what_to_do() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description", "action"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
