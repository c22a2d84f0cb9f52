"""A day of a shop: whatever is restarted or killed, every side has every event, in order, and repeats only what it may.

How many payments there are says DAY_PAYMENTS.
"""

from __future__ import annotations

import os

import pytest
from day_of_a_shop import MOST_REPEATED, TROUBLES, play
from rabbitmq_node import PROGRAM
from services import path_of

PAYMENTS = int(os.environ.get("DAY_PAYMENTS", "300"))


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    path_of(str(PROGRAM), "rabbitmq-server")
    return play(PAYMENTS, tmp_path_factory.mktemp("day"))


def test_everything_went_wrong_that_was_to_go_wrong(day, record_property):
    record_property("figures", day.figures)

    assert day.figures["troubles"] == TROUBLES


@pytest.mark.parametrize("side", ["payments", "exports"])
def test_every_event_was_committed(day, side):
    assert day.committed[side].business() == day.expected


def test_the_consumer_has_seen_every_event_in_the_order_of_its_workflow(day):
    assert day.consumed.business() == day.expected
    assert day.consumed.in_order == day.committed["payments"].in_order


def test_whoever_reads_rabbitmq_has_seen_every_event_in_the_order_of_its_workflow(day):
    assert day.forwarded.business() == day.expected
    assert day.forwarded.in_order == day.committed["exports"].in_order


def test_only_what_an_interruption_left_open_comes_again(day):
    assert day.consumed.repeated <= MOST_REPEATED["consumed"]
    assert day.forwarded.repeated <= MOST_REPEATED["forwarded"]


def test_on_a_day_on_which_nothing_goes_wrong_nothing_comes_again(tmp_path):
    path_of(str(PROGRAM), "rabbitmq-server")

    day = play(50, tmp_path, quiet=True)

    sides = [*day.committed.values(), day.consumed, day.forwarded]
    assert [side.business() for side in sides] == [day.expected] * 4
    assert [side.repeated for side in sides] == [0] * 4
