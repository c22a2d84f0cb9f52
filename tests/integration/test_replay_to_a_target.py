"""``replay --target``: archived events go to a forward target once more, confirmed and in order, and the queue is left alone."""

from __future__ import annotations

import pytest
from replaying import in_queue, replay, replayed
from sending import event, send


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
    assert payloads(receiver) == [number for number in range(25) if number != 3]


def test_a_target_that_is_gone_ends_the_replay_which_goes_on_later(archived, receiver):
    nowhere = "http://127.0.0.1:1/hook"
    first = replay(archived, "--all", "--yes", "--target", nowhere)
    assert first.exit_code == 1
    replay_id = first.stderr.split("Replay ")[1].split(";")[0]

    second = replay(archived, "--resume", replay_id, "--target", receiver.url)

    assert second.exit_code == 0, second.output
    assert payloads(receiver) == list(range(25))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--target", "nonsense"], "a URL is needed"), (["--target", "stdout:", "--bus"], "exclude each other")],
)
def test_a_wrong_target_is_a_usage_error(archived, arguments, message):
    result = replay(archived, "--all", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
