"""Bad input is refused when the worker starts: with the place, the reason, and what to do; before any task runs."""

from __future__ import annotations

import pytest
from queues import messages, names

TEMPLATE = """\
name: card_payment
namespace_name: payments
version: 1.0.0
steps:
  - name: pay
    handler:
      task: shop.pay
    publishes_events:
      - name: payment.sealed
        condition: success
"""


@pytest.fixture
def refusal(shop, dsn, tmp_path):
    """Starts a worker with a template made of the good one by replacing text; returns why it refused to start."""

    def start(old: str, new: str, **settings: object) -> str:
        assert old in TEMPLATE
        (tmp_path / "card.yaml").write_text(TEMPLATE.replace(old, new))
        worker = shop.start(wait_ready=False, **{"dsn": dsn, "templates": [str(tmp_path / "card.yaml")], **settings})
        assert worker.process.wait(30) == 1
        assert "Traceback" not in worker.log
        assert " ready." not in worker.log
        return worker.log.replace(str(tmp_path) + "/", "")

    return start


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("condition:", "conditon:", "10: unknown field 'conditon' in an event declaration. Did you mean 'condition'?"),
        ("condition: success", "condition: sucess", "10: unknown condition 'sucess'. Did you mean 'success'?"),
        ("condition: success", "delivery_mode: brodcast", "10: unknown delivery_mode 'brodcast'. Did you mean 'broadcast'?"),
        ("payment.sealed", "Payment sealed", "9: bad event name 'Payment sealed'"),
        ("namespace_name: payments", "namespace_name: Pay-ments", "2: bad namespace 'Pay-ments'"),
        ("condition: success", "schema: {type: objekt}", "10: event 'payment.sealed': invalid JSON Schema at type"),
        ("condition: success", "publisher: no.such.One", "10: event 'payment.sealed': publisher 'no.such.One' can't be imported"),
        ("task: shop.pay", "task: shop.pya", "5: step 'pay' names no Celery task (shop.pya). Did you mean 'shop.pay'?"),
        ("condition: success", "condition: !!python/name:os.system x", "10: tag tag:yaml.org,2002:python/name:os.system is not"),
    ],
)
def test_a_bad_template_is_refused_with_its_file_and_line(refusal, old, new, complaint):
    assert f"card.yaml:{complaint}" in refusal(old, new)


def test_durable_events_without_a_database_are_refused(shop):
    worker = shop.start(wait_ready=False)

    assert worker.process.wait(30) == 1
    assert "tasker_events_dsn: durable events are declared (for queue 'audit_domain_events') but no database is" in worker.log


def test_a_database_without_pgmq_is_refused_with_the_command_that_installs_it(shop, bare_dsn):
    worker = shop.start(wait_ready=False, dsn=bare_dsn)

    assert worker.process.wait(30) == 1
    assert "PGMQ is not installed in database" in worker.log
    assert "celery -A <your app> domain-events setup" in worker.log


def test_a_bad_setting_is_refused_with_its_range_and_no_password_is_told(shop):
    worker = shop.start(wait_ready=False, dsn="postgresql://me:s3cret@127.0.0.1:1/none", dispatch_timeout_ms=0)

    assert worker.process.wait(30) == 1
    assert "tasker_events_dispatch_timeout_ms: must be a whole number from 1 to 3600000, not 0" in worker.log
    assert "s3cret" not in worker.log


def test_a_right_template_binds_its_events_to_its_task_and_an_unknown_field_is_a_warning(shop, dsn, tmp_path):
    (tmp_path / "card.yaml").write_text(TEMPLATE.replace("    handler:", "    timout_seconds: 5\n    handler:"))
    worker = shop.start(dsn=dsn, templates=[str(tmp_path / "*.yaml")])
    shop.send("pay", 1).get(timeout=30)
    worker.stop()

    assert "payment.sealed" in names(messages(dsn, "payments"))
    warning = "card.yaml:6: unknown field 'timout_seconds' in a step. Did you mean 'timeout_seconds'?"
    assert [line for line in worker.log.splitlines() if "WARNING" in line and warning in line]
