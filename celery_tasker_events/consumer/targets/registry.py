"""Finds the target of a URL: each module of this folder may bring one, so that adding one means adding one file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Mapping

from celery_tasker_events.consumer.targets.base import Target, TargetOptions
from celery_tasker_events.errors import ConfigurationError, did_you_mean

__all__ = ["schemes", "target_for"]


@functools.cache
def _targets() -> Mapping[str, type[Target]]:
    package = sys.modules[__package__]
    for module in pkgutil.iter_modules(package.__path__, f"{__package__}."):
        importlib.import_module(module.name)
    return {scheme: kind for kind in Target.__subclasses__() for scheme in kind.schemes}


def schemes() -> tuple[str, ...]:
    """What the URLs of the targets begin with."""
    return tuple(sorted(_targets()))


def target_for(url: str, options: TargetOptions | None = None) -> Target:
    """Return the target of a URL, not opened yet.

    Raises:
        ConfigurationError: if there is none, or if the URL or an option is wrong.
    """
    scheme, colon, _ = url.partition(":")
    kind = _targets().get(scheme.partition("+")[0])
    if kind is None or (not colon and scheme != "stdout"):
        # Only what stands before the colon is told: the rest may hold a password.
        raise ConfigurationError(
            f"{scheme if colon else 'this'!r} is nothing that events are forwarded to; a URL is needed, such as amqp://host."
            + did_you_mean(scheme if colon else "", schemes())
        )
    return kind(url, options or TargetOptions())
