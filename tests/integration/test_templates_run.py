"""Templates that say it all, on real workers: the canvas of their steps, how often these are tried, and for how long."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from queues import messages
from services import REDIS, url_of
from worker_process import wait_until

# The result backend of older Celerys calls what newer clients of Redis deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


APPS = Path(__file__).parent / "apps"


def chain_of(*names):
    return {name: [before] if before else [] for before, name in zip([None, *names], names, strict=False)}


#: What each step depends on.
SHAPES = {
    "one": {"s0": []},
    "chain": chain_of("s0", "s1", "s2"),
    "group": {"s0": [], "s1": [], "s2": []},
    "chord": {"s0": [], "s1": [], "s2": ["s1", "s0"]},
    "diamond": {"s0": [], "s1": ["s0"], "s2": ["s0"], "s3": ["s2", "s1"]},
    "wide": {"s0": [], **{f"s{n}": ["s0"] for n in range(1, 16)}, "s16": [f"s{n}" for n in range(1, 16)]},
    "fan_out": {"s0": [], "s1": ["s0"], "s2": ["s1"], "s3": ["s1"]},
    "all_after_all": {"s0": [], "s1": [], "s2": ["s0", "s1"], "s3": ["s0", "s1"]},
    "again_and_again": {"s0": [], "s1": [], **{n: ["s0", "s1"] for n in ("s2", "s3")}, **{n: ["s2", "s3"] for n in ("s4", "s5")}},
    "diamonds": {"s0": [], "s1": ["s0"], "s2": ["s0"], "s3": ["s1", "s2"], "s4": ["s3"], "s5": ["s3"], "s6": ["s4", "s5"]},
    "branches": {**chain_of("s0", "s1", "s2"), "s3": [], "s4": ["s3"], "s5": ["s2", "s4"], "s6": ["s5"]},
    "chords_in_a_chord": {n: [] for n in ("s0", "s1", "s2", "s3")} | {"s4": ["s0", "s1"], "s5": ["s2", "s3"], "s6": ["s4", "s5"]},
    "diamond_in_a_branch": {"s0": [], "s1": ["s0"], "s2": ["s0"], "s3": ["s1", "s2"], "s4": [], "s5": ["s4", "s3"], "s6": ["s5"]},
}


def random_shape(generator):
    """Series and parallels of up to twenty steps."""
    numbers = iter(range(20))
    shape = {}

    def make(depth, before, side_by_side):
        kind = generator.choice(("step", "series", "parallel")) if depth else "step"
        if kind == "step":
            name = f"s{next(numbers)}"
            shape[name] = before
            return [name]
        if kind == "series":
            for _ in range(2):
                before = make(depth - 1, before, False)
            # Parallels must come together inside of other parallels.
            return make(0, before, False) if side_by_side and len(before) > 1 else before
        return [last for _ in range(2) for last in make(depth - 1, before, True)]

    ends = make(3, [], False)
    assert ends
    return shape


RANDOM = {f"random_{number}": random_shape(random.Random(number)) for number in range(16)}

OPTIONS = """\
name: options
namespace_name: shop
steps:
  - {name: refuse, retry: {limit: 3, backoff: none}}
  - {name: give_up, retry: {limit: 5, backoff: none}}
  - {name: wait, timeout_seconds: 1}
"""


def write_template(folder, name, shape):
    steps = "\n".join(f"  - {{name: {step}, dependencies: [{', '.join(before)}]}}" for step, before in shape.items())
    (folder / f"{name}.yaml").write_text(f"name: {name}\nnamespace_name: shop\nversion: 1.0.0\nsteps:\n{steps}\n")


@pytest.fixture(scope="module", params=["folder", "redis"])
def run(request, tmp_path_factory, new_database, make_shop):
    """Every canvas on one worker: chords by a task that polls (folder), and by the backend itself (Redis)."""
    folder, dsn = tmp_path_factory.mktemp("templates"), new_database()
    shop = make_shop(tmp_path_factory.mktemp("workflows"))
    if request.param == "redis":
        shop.settings["result_backend"] = url_of(REDIS)
    shapes = SHAPES | RANDOM
    for name, shape in shapes.items():
        write_template(folder, name, shape)
    (folder / "options.yaml").write_text(OPTIONS)
    settings = {"dsn": dsn, "templates": [str(folder / "*.yaml")], "apply_step_options": True}
    worker = shop.start(app="workflows", **settings)
    conf = {**shop.settings, **{f"tasker_events_{key}": value for key, value in settings.items()}}
    options = json.loads(
        subprocess.run(
            [sys.executable, APPS / "start_workflows.py", *shapes],
            env={**os.environ, "SHOP_SETTINGS": json.dumps(conf)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    expected = sum(map(len, shapes.values())) + 1 + 3 + 4
    wait_until(lambda: count(dsn, "step.ended") >= expected, f"{expected} steps", timeout=240)
    wait_until(lambda: count(dsn, "step.failed") >= 3, "the failing steps", timeout=60)
    exit_code = worker.stop()
    told = defaultdict(list)
    for event in messages(dsn, "steps"):
        told[event["metadata"]["correlation_id"]].append(event)
    return SimpleNamespace(told=told, options=options, exit_code=exit_code, log=worker.log)


def count(dsn, event_name):
    return sum(event["event_name"] == event_name for event in messages(dsn, "steps"))


def got(events):
    return {event["metadata"]["step_name"]: event["payload"]["got"] for event in events}


@pytest.mark.parametrize(("name", "shape"), (SHAPES | RANDOM).items(), ids=(SHAPES | RANDOM).keys())
def test_every_step_runs_once_and_gets_the_results_of_those_that_it_depends_on(run, name, shape):
    events = run.told[name]

    assert sorted(event["metadata"]["step_name"] for event in events) == sorted(shape)
    assert got(events) == {step: [before] if len(before) > 1 else before for step, before in shape.items()}


@pytest.mark.parametrize("name", [*SHAPES, *RANDOM])
def test_every_step_has_the_same_root(run, name):
    assert len({event["metadata"]["task_uuid"] for event in run.told[name]}) == 1


def test_two_runs_of_one_template_are_two_workflows(run):
    assert {e["metadata"]["task_uuid"] for e in run.told["one"]}.isdisjoint(e["metadata"]["task_uuid"] for e in run.told["chain"])


def test_arguments_go_to_the_steps_that_depend_on_none(run):
    (event,) = (e for events in run.told.values() for e in events if e["payload"] and e["payload"].get("got") == ["paid"])

    assert event["payload"]["given"] == {"by": "card"}
    assert event["metadata"]["correlation_id"] == event["metadata"]["task_uuid"]


def test_a_steps_own_arguments_come_after_the_results_that_it_gets(run):
    events = run.told["own_arguments"]

    assert got(events) == {"s0": [], "s1": [1], "s2": ["s1", "more"]}
    assert [e["payload"]["given"] for e in events if e["metadata"]["step_name"] == "s2"] == [{"by": "mail"}]


def test_a_canvas_that_is_built_in_a_block_has_its_correlation_id(run):
    assert len(run.told["by-block"]) == 4


def ends(run, name):
    # Not in their order: each attempt may run in another process.
    return [event["event_name"].removeprefix("step.") for event in run.told[run.options[name]]]


def test_a_step_is_tried_as_often_as_its_template_says(run):
    assert sorted(ends(run, "refuse")) == ["failed", "tried", "tried"]


def test_what_the_task_says_itself_counts_instead(run):
    assert sorted(ends(run, "give_up")) == ["failed", "tried"]
    assert "task workflows.give_up states max_retries=1 itself, so max_retries=4 is not applied" in run.log


def test_a_step_ends_when_its_template_says(run):
    (event,) = run.told[run.options["wait"]]

    assert event["execution_result"]["error"]["type"] == "SoftTimeLimitExceeded"


def test_the_worker_ends_well_and_logs_no_trouble_of_the_plugin(run):
    assert run.exit_code == 0
    assert "celery_tasker_events/" not in "".join(re.findall(r"Traceback.*?(?=\n\[|\Z)", run.log, re.DOTALL))
