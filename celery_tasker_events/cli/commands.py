"""The commands by name, each imported when it is asked for: Celery loads ``domain-events`` with every command of its own."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any

__all__ = ["ALONE", "WITH_APP", "Commands"]

_BOTH = (
    *("catalog", "check", "console", "diff", "dlq", "forward", "grants", "queues", "replay", "show", "tail", "top", "trace"),
    "types",
)
ALONE = (*_BOTH, "consume")
WITH_APP = (*_BOTH, "setup", "spool", "status")


class Commands(UserDict[str, Any]):
    """What a click group takes as ``commands``. Each is the function of its name in the module of its name."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = getattr(importlib.import_module(f"celery_tasker_events.cli.{name}"), name)
        return self.data[name]
