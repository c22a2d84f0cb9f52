"""``replay --target``: archived events go to a forward target once more, confirmed and in order, and the queue is left alone."""

from __future__ import annotations

import json

import pytest
from replaying import in_queue, replay, replayed
from sending import event, send

from celery_tasker_events.consumer.destinations import TargetDestination


@pytest.fixture
def archived(dsn):
    for number in range(25):
        send(dsn, event(payload=number), archive=True)
    return dsn


def payloads(receiver):
    return [taken["payload"] for taken in receiver.taken]


def test_a_webhook_gets_every_event_in_order_and_marked(archived, receiver):
    said = replayed(archived, "--all", "--target", receiver.url)

    assert payloads(receiver) == list(range(25))
    assert {taken["metadata"]["replay_id"] for taken in receiver.taken} == {said["replay_id"]}
    assert in_queue(archived) == []


def test_what_the_target_refuses_for_good_is_told_and_the_others_go_on(archived, receiver):
    receiver.answers = {3: [422]}

    result = replay(archived, "--all", "--yes", "--target", receiver.url)

    assert result.exit_code == 1
    assert f"{receiver.url.removesuffix('/hook')} refused 1 events; the log says which" in result.stderr
    assert payloads(receiver) == [number for number in range(25) if number != 3]


def test_a_target_that_is_gone_ends_the_replay_which_goes_on_later(archived, receiver):
    nowhere = "http://127.0.0.1:1/hook"
    first = replay(archived, "--all", "--yes", "--target", nowhere)
    assert first.exit_code == 1
    assert "Error: the target takes no more now: http://127.0.0.1:1: " in first.stderr

    second = replay(archived, "--resume", id_of(first), "--target", receiver.url)

    assert second.exit_code == 0, second.output
    assert payloads(receiver) == list(range(25))


def test_a_target_that_goes_in_the_middle_gets_again_no_more_than_the_batch_that_was_open(archived, receiver, monkeypatch):
    monkeypatch.setattr(TargetDestination, "batch_size", 10)
    receiver.answers = {17: [503]}

    first = replay(archived, "--all", "--yes", "--target", receiver.url)
    before = payloads(receiver)
    second = replay(archived, "--resume", id_of(first), "--target", receiver.url)

    assert (first.exit_code, second.exit_code) == (1, 0)
    assert "Interrupted after 10 events" in first.stderr
    assert before == list(range(17))
    assert payloads(receiver)[17:] == list(range(10, 25))


def id_of(result):
    return result.stderr.split("Replay ")[1].split(";")[0]


def test_lines_of_events_on_stdout_are_alone_there(archived):
    result = replay(archived, "--all", "--yes", "--target", "stdout:")

    assert [json.loads(line)["payload"] for line in result.stdout.splitlines()] == list(range(25))
    assert "25 events replayed to the target" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "nonsense"], "a URL is needed"),
        (["--target", "stdout:", "--bus"], "exclude each other"),
        (["--target", "celery://crm.book"], "can't start tasks of another app"),
    ],
)
def test_a_wrong_target_is_a_usage_error(archived, arguments, message):
    result = replay(archived, "--all", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
