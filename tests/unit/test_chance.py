"""Waits differ by chance, and the random numbers that a user has seeded stay as they would be."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from celery_tasker_events import chance


def test_waits_differ_and_are_within_their_bounds() -> None:
    waits = [chance.between(0.5, 1.5) for _ in range(1000)]

    assert len(set(waits)) > 900
    assert all(0.5 <= wait <= 1.5 for wait in waits)
    assert min(waits) < 0.6 < 1.4 < max(waits)


@pytest.fixture
def shared_generator() -> Iterator[None]:
    before = random.getstate()
    yield
    random.setstate(before)


@pytest.mark.usefixtures("shared_generator")
def test_a_seeded_sequence_is_not_disturbed() -> None:
    random.seed(42)
    undisturbed = [random.random() for _ in range(3)]
    backoffs = chance.backoffs(0.1, 5.0)

    random.seed(42)
    disturbed = [(next(backoffs), random.random())[1] for _ in range(3)]

    assert disturbed == undisturbed


def test_forked_children_do_not_wait_alike() -> None:
    program = """
import os
from celery_tasker_events import chance
chance.between(0, 1)
for _ in range(4):
    if os.fork() == 0:
        print(chance.between(0, 1), flush=True)
        os._exit(0)
    os.wait()
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert len(set(ran.stdout.split())) == 4


def test_backoffs_double_up_to_the_last_less_up_to_half_at_random() -> None:
    longest = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]

    waits = list(itertools.islice(chance.backoffs(0.1, 5.0), len(longest)))

    assert all(limit / 2 <= wait <= limit + 1e-9 for wait, limit in zip(waits, longest, strict=True))
    assert waits != longest
