"""Keeps the DSN's password out of what Celery prints of an app's configuration: ``celery report``, ``inspect conf``."""

from __future__ import annotations

import re

from celery.app import utils

__all__ = ["hide_dsn"]

_OURS = "TASKER_EVENTS_DSN"


def hide_dsn() -> None:
    """Add the setting to those that Celery shows as ``********``.

    Celery tells secrets by the names of settings, in a module constant; there is no other way to add one.
    """
    if _OURS not in utils.HIDDEN_SETTINGS.pattern:
        utils.HIDDEN_SETTINGS = re.compile(f"{utils.HIDDEN_SETTINGS.pattern}|{_OURS}", utils.HIDDEN_SETTINGS.flags)
