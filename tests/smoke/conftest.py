"""Smoke tests by pytest-celery's ``celery_setup``, on the nodes that the machine has.

Where a Docker engine answers, the nodes are pytest-celery's containers (``container_nodes``); where none does, they are
local processes (``process_nodes``). The tests are the same. ``SMOKE_NODES=processes`` or ``SMOKE_NODES=containers``
makes the choice by hand.
"""

from __future__ import annotations

import contextlib
import gc
import os
import warnings

import docker
import pytest
from celery import _state

# pytest-celery's plugin is named "celery", as is Celery's own, and `-p no:celery` keeps both out of the other folders,
# whose fixtures of the same names they would hide. Imported here, its fixtures exist in this folder only.
# The module defines shared tasks, too ("ping", "add", "fail"), which from then on every app in this process would
# have: they are forgotten again.
_finalizers = set(_state._on_app_finalizers)
from pytest_celery import *  # noqa: E402, F403  # see above

_state._on_app_finalizers.intersection_update(_finalizers)


def _docker_answers() -> bool:
    with warnings.catch_warnings():
        # Where nothing answers, the client for Docker forgets to close its socket; it is collected here and now, so
        # that no test is blamed for it.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with contextlib.closing(docker.from_env(timeout=5)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False
        finally:
            gc.collect()


_nodes = os.environ.get("SMOKE_NODES") or ("containers" if _docker_answers() else "processes")
if _nodes == "containers":
    from .container_nodes import *  # noqa: F403  # fixtures
elif _nodes == "processes":
    from .process_nodes import *  # noqa: F403  # fixtures
else:
    raise pytest.UsageError(f"SMOKE_NODES must be 'processes' or 'containers', not {_nodes!r}")
