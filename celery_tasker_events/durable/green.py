"""Whether gevent or eventlet run green threads in place of real ones: nothing may wait but by way of their hub then."""

from __future__ import annotations

import sys

__all__ = ["eventlet_has_patched", "threads_are_green"]


def threads_are_green() -> bool:
    """Whether one of them has replaced what waits for sockets; neither is imported for the question."""
    return _has_patched("gevent.monkey", "is_module_patched") or eventlet_has_patched()


def eventlet_has_patched() -> bool:
    return _has_patched("eventlet.patcher", "is_monkey_patched")


def _has_patched(module: str, told_by: str) -> bool:
    patcher = sys.modules.get(module)
    return patcher is not None and bool(getattr(patcher, told_by)("select"))
