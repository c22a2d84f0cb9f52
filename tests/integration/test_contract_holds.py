"""What arrives in the queues is what the AsyncAPI document says, in every envelope."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import referencing
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from queues import messages
from referencing.jsonschema import DRAFT7, DRAFT202012

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.envelope import NAMES, read

pydantic = pytest.importorskip("pydantic")

TEMPLATE = """\
name: checkout
namespace_name: payments
steps:
  - name: charge
    handler: {task: shop.pay}
    publishes_events:
      - name: payment.processed
        schema:
          type: object
          required: [inCents]
          properties: {inCents: {$ref: "#/definitions/Amount"}}
          definitions: {Amount: {type: integer, minimum: 1}}
      - {name: payment.retried, condition: retryable_failure}
      - {name: payment.failed, condition: permanent_failure, version: "2.0"}
"""


class Paid(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)

    in_cents: int = pydantic.Field(alias="inCents")


@dataclasses.dataclass
class Flagged:
    score: float


@pytest.fixture(params=NAMES)
def shop(request, dsn, tmp_path):
    (tmp_path / "checkout.yaml").write_text(TEMPLATE)
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(
        tasker_events_dsn=dsn,
        tasker_events_templates=[str(tmp_path / "checkout.yaml")],
        tasker_events_namespace="payments",
        tasker_events_envelope=request.param,
    )
    events = DomainEvents(app)
    flagged = events.declare("payment.flagged", Flagged)

    @app.task(bind=True, name="shop.pay", max_retries=1, ignore_result=True, shared=False)
    @publishes_events("payment.noted", schema=Paid)
    def pay(self: Any, cents: int, fails: bool = False) -> Any:
        events.publish(flagged, Flagged(cents / 100))
        if fails:
            raise self.retry(exc=TimeoutError("slow"), countdown=0)
        return Paid(in_cents=cents)

    yield SimpleNamespace(app=app, events=events, pay=pay, dsn=dsn, command=command)
    events.close(20)


def command(app: Celery, *arguments: str) -> str:
    context: Any = CLIContext(app=app, no_color=True, workdir=None)
    result = CliRunner().invoke(domain_events, arguments, obj=context)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_message_in_the_queue_is_one_of_the_document(shop):
    shop.command(shop.app, "setup")
    shop.pay.apply([500])
    shop.pay.apply([700], {"fails": True})
    assert shop.events.drain(60)

    document = json.loads(shop.command(shop.app, "catalog", "--format", "asyncapi"))
    channel = document["channels"]["payments_domain_events"]
    queued = messages(shop.dsn, "payments")
    named = {
        message["name"]: (key, message)
        for key, message in document["components"]["messages"].items()
        if key in channel["messages"]
    }

    assert {read(body).event_name for body in queued} == named.keys()
    for body in queued:
        key, message = named[read(body).event_name]
        is_multi_format = "schemaFormat" in message["payload"]
        draft, validator = (
            (DRAFT202012, jsonschema.Draft202012Validator) if is_multi_format else (DRAFT7, jsonschema.Draft7Validator)
        )
        registry = referencing.Registry().with_resource("urn:document", draft.create_resource(document))
        schema = {"$ref": f"urn:document#/components/messages/{key}/payload{'/schema' if is_multi_format else ''}"}
        validator(schema, registry=registry).validate(body)
