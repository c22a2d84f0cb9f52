"""What stands in messages is shown so that no terminal obeys it."""

from __future__ import annotations

import datetime
import json

import pytest

from celery_tasker_events.consumer.entry import Entry, Outline
from celery_tasker_events.consumer.printable import entry_as_json, pretty, printable, shown, utc

HOSTILE = "\x1b[2Jred\x1b[31m\r\n\x07\x9b\u202egnp.exe\x00"
AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def entry(message: object) -> Entry:
    return Entry("q_\x1b", 1, AT, None, 0, AT, message, {}, Outline(event_name="a.\x1b"))


def test_control_characters_are_shown_as_escapes() -> None:
    assert printable(HOSTILE) == r"\x1b[2Jred\x1b[31m\r\n\x07\x9b\u202egnp.exe\x00"


def test_what_can_be_read_stays_as_it_is() -> None:
    assert printable("Grüße, 世界 €") == "Grüße, 世界 €"


def test_json_is_laid_out_without_a_control_character() -> None:
    laid_out = pretty({"text": HOSTILE, "name": "Grüße"})

    assert all(line.isprintable() for line in laid_out.splitlines())
    assert '  "name": "Grüße"' in laid_out.splitlines()


@pytest.mark.parametrize("message", [HOSTILE, {HOSTILE: [HOSTILE]}])
def test_an_entry_is_one_line_of_ascii_that_says_all(message: object) -> None:
    line = entry_as_json(entry(message))

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == message


def test_what_python_can_not_write_is_told_in_place_of_the_message() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert json.loads(entry_as_json(entry(deep)))["problem"] == "nested too deeply to be shown"
    assert pretty(deep) == "(nested too deeply to be shown)"


def test_nothing_is_a_dash() -> None:
    assert (shown(None), utc(None), shown(0), shown("")) == ("-", "-", "0", "")


def test_times_are_in_utc() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))

    assert utc(datetime.datetime(2026, 1, 1, 12, tzinfo=east)) == "2026-01-01T10:00:00.000Z"
