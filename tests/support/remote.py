"""Asks running workers about their domain events, as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery


def ask(client: Celery, node: str, timeout: float = 30.0) -> dict[str, Any]:
    """The answer of one worker; fails if there is none in time, in seconds."""
    replies = client.control.broadcast("domain_events", reply=True, destination=[node], limit=1, timeout=timeout)
    assert replies, f"{node} does not answer"
    return dict(replies[0][node])


def published(answer: Mapping[str, Any], name: str = "published") -> dict[tuple[str, str], int]:
    """The counts of an answer that are not 0, by event and delivery mode."""
    return {(e["event"], e["delivery_mode"]): e[name] for e in answer["events"] if e[name]}


def celery(app: str, folder: Path, settings: Mapping[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``celery -A <app> <arguments>`` in the app's folder."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, *arguments],
        cwd=folder,
        env={**os.environ, "SHOP_SETTINGS": json.dumps(dict(settings))},
        capture_output=True,
        text=True,
        timeout=120,
    )
