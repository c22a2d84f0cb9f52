"""A program for tests: sends the canvases of the templates that it is told, and prints the ids of steps that it sends alone."""

from __future__ import annotations

import json
import sys

from workflows import app, events

if __name__ == "__main__":
    for name in sys.argv[1:]:
        events.canvas(f"shop/{name}", correlation_id=name).apply_async()
    events.canvas("shop/one", ["paid"], {"by": "card"}).apply_async()
    only = {"s1": {"args": [1], "immutable": True}, "s2": {"args": ["more"], "kwargs": {"by": "mail"}}}
    events.canvas("shop/chain", steps=only, correlation_id="own_arguments").apply_async()
    with events.correlation("by-block"):
        events.canvas("shop/diamond").apply_async()
    alone = ("refuse", "give_up", "wait")
    print(json.dumps({name: app.tasks[f"workflows.{name}"].apply_async().id for name in alone}))
