"""Objects that begin anew in a forked child: a lock of theirs may have been held by a thread that does not exist there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_in_children"]


class Renewable(Protocol):
    def after_fork_in_child(self) -> None: ...


def renew_in_children(renewable: Renewable) -> None:
    """Have ``after_fork_in_child`` called in every child that this process forks, for as long as the object lives."""
    _renewables.add(renewable)


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for renewable in list(_renewables):
        renewable.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
