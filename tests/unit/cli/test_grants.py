"""``grants`` prints SQL for known queues and roles, and says what is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_tasker_events import publishes_events


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "no role: give --publisher ROLE, --consumer ROLE, or both"),
        (("--publisher", "worker"), "no queue: give --namespace NAME, or an app"),
        (("--publisher", "worker", "--namespace", "Pay-ments"), "--namespace: bad namespace 'Pay-ments'"),
        (("--publisher", "", "--namespace", "payments"), "bad name of a role: ''"),
        (("--consumer", "x$grants$; drop", "--namespace", "payments"), "bad name of a role"),
    ],
)
def test_what_it_can_not_print_is_told(run_alone: Any, arguments: tuple[str, ...], complaint: str) -> None:
    result = run_alone("grants", *arguments)

    assert result.exit_code == 2
    assert complaint in result.output


def test_an_app_without_durable_events_has_no_queues(shop: Any, run_celery: Any) -> None:
    app, _ = shop

    result = run_celery(app, "grants", "--publisher", "worker")

    assert result.exit_code == 2
    assert "the app declares no durable event" in result.output


def test_the_queues_are_those_of_the_app_where_no_namespace_is_given(shop: Any, run_celery: Any, run_alone: Any) -> None:
    app, _ = shop

    @app.task(name="shop.pay", shared=False)
    @publishes_events("payment.processed", namespace="payments")
    def pay() -> None: ...

    roles = ("--publisher", "worker", "--consumer", "reader")
    assert run_celery(app, "grants", *roles).output == run_alone("grants", *roles, "--namespace", "payments").output


def test_names_are_quoted_and_each_role_gets_its_own_rights(run_alone: Any) -> None:
    result = run_alone("grants", "--publisher", 'Wor"ker', "--consumer", "reader", "--namespace", "payments")

    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert 'grant insert, select (msg_id) on "pgmq"."q_payments_domain_events_dlq" to "Wor""ker";' in lines
    assert 'grant select, delete on "pgmq"."q_payments_domain_events" to "reader";' in lines
    assert not [line for line in lines if "delete" in line and 'Wor""ker' in line]
    assert lines[2] == "begin;"
    assert lines[-1] == "commit;"


def test_json_has_the_same_sql(run_alone: Any) -> None:
    arguments = ("grants", "--consumer", "reader", "--namespace", "payments")

    told = json.loads(run_alone(*arguments, "--format", "json").output)

    assert told.pop("sql") + "\n" == run_alone(*arguments).output
    assert told == {"publishers": [], "consumers": ["reader"], "queues": ["payments_domain_events"]}


def test_a_role_that_is_not_asked_for_is_not_in_it(run_alone: Any) -> None:
    result = run_alone("grants", "--consumer", "reader", "--namespace", "payments")

    assert 'insert, select (msg_id) on "pgmq"."q_payments_domain_events" to' not in result.output
