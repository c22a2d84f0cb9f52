"""An app whose events are declared in every way that has a schema: by a template, by a class, and by hand."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import pydantic
from celery import Celery, Task

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


class Paid(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)

    in_cents: int = pydantic.Field(alias="inCents")


@dataclasses.dataclass
class Flagged:
    score: float


flagged = events.declare("payment.flagged", Flagged, description="Looks odd")


@app.task(bind=True, name="shop.pay", max_retries=1, ignore_result=True)
@publishes_events("payment.noted", schema=Paid)
def pay(self: Task, cents: int, *, fails: bool = False) -> Any:
    events.publish(flagged, Flagged(cents / 100))
    if fails:
        raise self.retry(exc=TimeoutError("slow"), countdown=0.2)
    return Paid(in_cents=cents)
