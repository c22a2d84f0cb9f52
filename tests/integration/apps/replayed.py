"""An app for tests of replays: subscribers that tell what they were called with.

Configured by the environment: SHOP_SETTINGS (JSON).
"""

from __future__ import annotations

import asyncio
import json
import os

from celery import Celery

from celery_tasker_events import DomainEvent, DomainEvents

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@events.subscribe("payment.*")
def tell(event: DomainEvent) -> None:
    print(f"told {event.payload} of {event.metadata.extra['replay_id']}", flush=True)


@events.subscribe("payment.processed")
async def refuse(event: DomainEvent) -> None:
    await asyncio.sleep(0)
    if event.payload in json.loads(os.environ.get("REFUSED", "[]")):
        raise LookupError("no such account")
