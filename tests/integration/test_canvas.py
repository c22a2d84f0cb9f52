"""Canvases that are sent from outside of any task, on real workers: ids, correlation, callbacks, replacements, stamps."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from celery import Celery, chain, chord, group, signature
from celery.canvas import StampingVisitor, chunks, xmap, xstarmap
from queues import messages
from services import REDIS, url_of
from worker_process import close, wait_until

from celery_tasker_events import DomainEvents

# The result backend of older Celerys calls what newer clients of Redis deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Visitor(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"tenant": "acme", "stamped_headers": ["tenant"]}


def task(name, *args, **options):
    return signature(f"composed.{name}", args=args, options=options)


def send_all(events):
    """Send every canvas; return their results by name."""
    add, note = (lambda *a: task("add", *a)), (lambda *a: task("note", *a))
    frozen = add(1)
    frozen.freeze("frozen-1")
    linked = add(1)
    linked.link(add(1))
    sent = {
        "chain": chain(add(1), add(1), add(1)).apply_async(),
        "group": group(add(1), add(2)).apply_async(),
        "chord": chord([add(1), add(2)], add(3)).apply_async(),
        "chord_of_chains": chord([chain(add(1), add(1)), chain(add(2), add(2))], add(3)).apply_async(),
        "nested": chain(add(1), group(add(1), chain(add(1), add(1))), add(1)).apply_async(),
        "chord_in_chord": chord([chord([add(1), add(2)], add(3)), add(4)], add(5)).apply_async(),
        "linked": linked.apply_async(),
        "called_on_error": task("fail").on_error(task("note_failure")).apply_async(),
        "sent_on_error": task("fail").on_error(task("hear_of_failure")).apply_async(),
        "failed_chord": chord([task("fail"), add(1)], add(3).on_error(task("note_failure"))).apply_async(),
        "replaced_in_chain": chain(add(1), task("become_a_chain"), add(1)).apply_async(),
        "replaced_by_group": chain(task("become_a_group", 1), add(1)).apply_async(),
        "headed": chain(add(1), add(1), add(1)).apply_async(headers={"tasker_correlation_id": "by-header"}),
        "frozen": frozen.apply_async(),
        "map": xmap(note(), [1, 2]).apply_async(),
        "starmap": xstarmap(note(), [(1, 2), (3, 4)]).apply_async(),
        "chunks": chunks(note(), [(1, 2), (3, 4)], 1).apply_async(),
    }
    with events.correlation("by-block"):
        sent["in_block"] = chord([add(1), chain(add(2), add(2))], add(3)).apply_async()
    stamped = chain(add(1), group(add(1), add(2)), add(1))
    stamped.stamp(visitor=Visitor())
    sent["stamped"] = stamped.apply_async()
    for _ in range(2):
        sent["twice"] = add(1).apply_async(task_id="twice-1")
        sent["twice"].get(timeout=60)
        sent["twice"].forget()
    return sent


@pytest.fixture(scope="module", params=["folder", "redis"])
def run(request, tmp_path_factory, new_database, make_shop):
    """All canvases on one worker: chords by a task that polls (folder), and by the backend itself (Redis)."""
    shop, dsn = make_shop(tmp_path_factory.mktemp("canvas")), new_database()
    if request.param == "redis":
        shop.settings["result_backend"] = url_of(REDIS)
    worker = shop.start(app="composed", dsn=dsn)
    client = Celery("caller")
    client.conf.update(shop.settings)
    sent = send_all(DomainEvents(client))
    for name, result in sent.items():
        wait_until(lambda result=result: result.ready() or result.id == "twice-1", f"the result of {name}", timeout=90)
    noted = ("called_on_error", "failed_chord")
    wait_until(lambda: of_correlation(dsn, sent["linked"].id)["add"] == 2, "the callback", timeout=60)
    wait_until(lambda: of_correlation(dsn, sent["sent_on_error"].id)["hear_of_failure"], "the errback", timeout=60)
    wait_until(
        lambda: sum(e["event_name"] == "failure.noted" for e in messages(dsn, "steps")) == len(noted), "the errbacks called"
    )
    exit_code = worker.stop()
    close(client)
    return SimpleNamespace(**sent, log=worker.log, exit_code=exit_code, events=messages(dsn, "steps"))


def of_correlation(dsn_or_events, correlation_id):
    """How often which step told how it ended, of one correlation id."""
    events = messages(dsn_or_events, "steps") if isinstance(dsn_or_events, str) else dsn_or_events
    return Counter(
        event["metadata"]["step_name"]
        for event in events
        if event["metadata"]["correlation_id"] == correlation_id and event["event_name"] == "step.ended"
    )


def ended(run, result):
    """The outcomes of one step."""
    return [e for e in run.events if e["metadata"]["step_uuid"] == result.id and e["event_name"] == "step.ended"]


def test_all_steps_of_a_chain_have_the_first_one_as_root_and_correlation_id(run):
    last, second = run.chain, run.chain.parent
    first = second.parent

    assert of_correlation(run.events, first.id) == {"add": 3}
    assert [event["payload"] for result in (first, second, last) for event in ended(run, result)] == [1, 2, 3]
    roots = {event["metadata"]["task_uuid"] for result in (first, second, last) for event in ended(run, result)}
    assert roots == {first.id}


def test_the_members_of_a_group_have_no_root_in_common_but_the_groups_id_as_correlation_id(run):
    assert of_correlation(run.events, run.group.id) == {"add": 2}
    events = [event for result in run.group.results for event in ended(run, result)]
    assert [event["metadata"]["task_uuid"] for event in events] == [result.id for result in run.group.results]


@pytest.mark.parametrize(("name", "steps"), [("chord", 3), ("chord_of_chains", 5)])
def test_a_chord_has_one_correlation_id_that_of_its_header(run, name, steps):
    result = getattr(run, name)

    assert of_correlation(run.events, result.parent.id) == {"add": steps}
    (body,) = ended(run, result)
    assert body["payload"] == {"chord": 6, "chord_of_chains": 9}[name]


def test_a_canvas_inside_of_a_chain_belongs_to_the_chain(run):
    first = run.nested.parent.parent

    assert of_correlation(run.events, first.id) == {"add": 5}
    assert {e["metadata"]["task_uuid"] for e in run.events if e["metadata"]["correlation_id"] == first.id} == {first.id}


def test_every_step_of_a_chord_in_a_chord_ends_once(run):
    (body,) = ended(run, run.chord_in_chord)
    assert body["payload"] == 15


def test_a_callback_is_a_child_of_its_step(run):
    assert of_correlation(run.events, run.linked.id) == {"add": 2}


def test_an_errback_that_celery_calls_is_part_of_the_step_that_failed(run):
    assert of_correlation(run.events, run.called_on_error.id) == {"fail": 1}
    (noted,) = (
        e for e in run.events if e["event_name"] == "failure.noted" and e["metadata"]["step_uuid"] == run.called_on_error.id
    )
    assert noted["payload"].startswith("KeyError")


def test_an_errback_that_celery_sends_is_a_child_of_the_step_that_failed(run):
    assert of_correlation(run.events, run.sent_on_error.id) == {"fail": 1, "hear_of_failure": 1}


def test_the_body_of_a_chord_that_failed_has_no_outcome_as_it_never_ran(run):
    assert ended(run, run.failed_chord) == []
    assert of_correlation(run.events, run.failed_chord.parent.id) == {"fail": 1, "add": 1}


def test_a_step_of_a_chain_that_is_replaced_by_a_chain_has_the_outcome_of_its_last_step(run):
    replaced, first = run.replaced_in_chain.parent, run.replaced_in_chain.parent.parent

    assert [event["payload"] for event in ended(run, replaced)] == [3]
    assert [event["payload"] for event in ended(run, run.replaced_in_chain)] == [4]
    assert of_correlation(run.events, first.id) == {"add": 4}


def test_a_step_that_is_replaced_by_a_group_has_no_outcome_of_its_own(run):
    first = run.replaced_by_group.parent

    assert ended(run, first) == []
    assert of_correlation(run.events, first.id) == {"add": 3}
    assert [event["payload"] for event in ended(run, run.replaced_by_group)] == [6]


def test_a_correlation_id_in_the_callers_headers_flows_through_the_chain(run):
    assert of_correlation(run.events, "by-header") == {"add": 3}


def test_a_correlation_id_of_a_block_flows_to_every_step_of_the_canvas(run):
    assert of_correlation(run.events, "by-block") == {"add": 4}


def test_stamps_change_nothing(run):
    assert of_correlation(run.events, run.stamped.parent.parent.id) == {"add": 4}


def test_a_frozen_signature_tells_the_id_that_it_was_frozen_with(run):
    assert [event["metadata"]["task_uuid"] for event in ended(run, run.frozen)] == ["frozen-1"]


def test_two_calls_with_one_id_are_one_step_that_ends_twice_with_one_key(run):
    first, second = ended(run, run.twice)

    assert first["metadata"]["idempotency_key"] == second["metadata"]["idempotency_key"]


def test_what_map_starmap_and_chunks_call_has_no_outcome_and_that_is_told(run):
    results = [run.map, run.starmap, *run.chunks.results]

    assert [event for result in results for event in ended(run, result)] == []
    assert "called task composed.note, which has events" in run.log


def test_what_map_starmap_and_chunks_call_publishes_by_hand_for_the_step_that_calls(run):
    for result, payloads in [(run.map, [[1], [2]]), (run.starmap, [[1, 2], [3, 4]])]:
        noted = [event for event in run.events if event["metadata"]["step_uuid"] == result.id]
        assert [event["payload"] for event in noted] == payloads
        assert len({event["metadata"]["idempotency_key"] for event in noted}) == 2
    assert sum(event["metadata"]["correlation_id"] == run.chunks.id for event in run.events) == 2


def test_the_worker_ends_well_and_logs_no_trouble_of_the_plugin(run):
    assert run.exit_code == 0
    assert "celery_tasker_events/" not in "".join(re.findall(r"Traceback.*?(?=\n\[|\Z)", run.log, re.DOTALL))
    assert "Could not hand on" not in run.log
    assert "Domain events of task" not in run.log
