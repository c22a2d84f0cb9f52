"""The dashboard and the alert rules of the docs work on what a worker serves, and so do the queries of the page."""

from __future__ import annotations

import json
import re
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from pages import DOCS
from prometheus import scraping
from scraping import address_of, families_of
from services import path_of
from worker_process import wait_until

DASHBOARD = DOCS / "grafana" / "domain-events.json"
ALERTS = DOCS / "prometheus" / "alerts.yml"

QUERIES = (
    "sum by (namespace) (rate(tasker_domain_events_published_total[5m]))",
    "topk(10, sum by (event_name) (rate(tasker_domain_events_published_total[5m])))",
)

#: What Grafana puts in the place of the dashboard's variables.
VARIABLES = {"$job": "shop", "$instance": ".*"}


def expressions_of_dashboard():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    for name, value in VARIABLES.items():
        expressions = [expression.replace(name, value) for expression in expressions]
    return expressions


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def metrics_in(text):
    return set(re.findall(r"\btasker_[a-z_]+", text))


@pytest.fixture(scope="module")
def worker(module_shop, new_database):
    """A worker that has published, and failed to."""
    dsn = new_database()
    worker = module_shop.start(dsn=dsn, metrics_port=0)
    return SimpleNamespace(shop=module_shop, address=address_of(worker))


@pytest.fixture(scope="module")
def served(worker):
    """The names of all samples that a worker serves, those of its families that have none yet included."""
    for task, *arguments in (("pay", 1), ("violates_schema",)):
        worker.shop.send(task, *arguments).get(timeout=60)
    families = wait_until(
        lambda: (found := families_of(worker.address))["tasker_domain_events_dead_lettered"].samples and found, "all is counted"
    )
    names = {sample.name for family in families.values() for sample in family.samples}
    return names | {name + ("_total" if family.type == "counter" else "") for name, family in families.items()}


@pytest.fixture(scope="module")
def prometheus(worker, tmp_path_factory):
    with scraping(worker.address, tmp_path_factory.mktemp("prometheus")) as prometheus:
        wait_until(lambda: prometheus.query("tasker_domain_events_processes"), "the first scrape", 60)
        yield prometheus


def test_every_metric_of_the_dashboard_is_served(served):
    text = DASHBOARD.read_text()
    named = metrics_in(text)

    assert len(named) >= 14
    assert named - served == set()


def test_the_dashboard_shows_every_metric_but_the_alerted_ones(served):
    shown = metrics_in(DASHBOARD.read_text()) | metrics_in(ALERTS.read_text())
    parts = {name for name in served if name.startswith("tasker_domain_event_publish_duration")}

    assert {name for name in served if name.startswith("tasker_")} - parts - shown == set()


def test_the_panels_of_the_dashboard_are_told_apart_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels) == len(set(places))
    assert all(target["legendFormat"] for panel in panels for target in panel["targets"])


def test_every_metric_of_the_alert_rules_is_served(served):
    for rule in rules():
        assert metrics_in(rule["expr"]), rule["alert"]
        assert metrics_in(rule["expr"]) - served == set(), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_labels_of_the_alerts_texts_are_those_that_their_expressions_keep():
    for rule in rules():
        kept = set(re.search(r"by \(([^)]*)\)", rule["expr"])[1].split(", "))
        told = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert told <= kept, rule["alert"]


def test_prometheus_own_tool_accepts_the_rules():
    promtool = path_of("promtool", "prometheus")

    checked = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True, timeout=60)

    assert checked.returncode == 0, checked.stderr


SERIES = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      # The first drop makes the series.
      - series: 'tasker_domain_events_dropped_total{{job="shop",namespace="payments",event_name="a.b",reason="spool full"}}'
        values: '_x20 1x40'
      - series: 'tasker_domain_events_connections{{job="shop",instance="w",state="down"}}'
        values: '0x20 2x40'
      - series: 'tasker_domain_events_counts_complete{{job="shop",instance="w"}}'
        values: '1x60'
    alert_rule_test:
      - {{eval_time: 10m, alertname: DomainEventsDropped, exp_alerts: []}}
      - {{eval_time: 40m, alertname: DomainEventsDropped, exp_alerts: []}}
      - {{eval_time: 10m, alertname: DomainEventsPostgresDown, exp_alerts: []}}
      - {{eval_time: 25m, alertname: DomainEventsCountsIncomplete, exp_alerts: []}}
      - eval_time: 25m
        alertname: DomainEventsPostgresDown
        exp_alerts:
          - exp_labels: {{severity: critical, job: shop, instance: w}}
            exp_annotations:
              summary: "2 processes of w do not reach Postgres"
              description: "Durable events wait on disk meanwhile, as long as tasker_events_spool_max_bytes has room."
      - eval_time: 25m
        alertname: DomainEventsDropped
        exp_alerts:
          - exp_labels: {{severity: critical, job: shop, namespace: payments, event_name: a.b, reason: spool full}}
            exp_annotations:
              summary: "a.b was dropped: spool full"
              description: "1 events of namespace payments were lost in 10 minutes, as a buffer had no room."
"""


def test_an_alert_fires_when_events_are_dropped_or_postgres_is_away_and_not_before(tmp_path):
    promtool = path_of("promtool", "prometheus")
    (tmp_path / "test.yml").write_text(SERIES.format(alerts=json.dumps(str(ALERTS))))

    tested = subprocess.run([promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, timeout=60)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_of_the_reference_system_work_in_a_real_prometheus(query, prometheus, worker):
    label = re.search(r"by \((\w+)\)", query)[1]
    page = (DOCS / "reference" / "telemetry.md").read_text()
    assert query in page

    def rates():
        worker.shop.send("pay", 1)
        found = {sample["metric"][label]: float(sample["value"][1]) for sample in prometheus.query(query)}
        return any(found.values()) and found

    found = wait_until(rates, "a rate", 60)
    assert ("payments" if label == "namespace" else "payment.processed") in found


def test_a_real_prometheus_takes_every_expression_of_the_dashboard(prometheus, served):
    told = {expression: prometheus.query(expression) for expression in expressions_of_dashboard()}

    always = [expression for expression in told if "> 0" not in expression and "histogram" not in expression]
    assert [expression for expression in always if not told[expression]] == []
