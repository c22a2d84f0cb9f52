"""events.canvas: the signature that comes of a template, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery, group
from celery.canvas import Signature, _chain, _chord

from celery_tasker_events import ConfigurationError, DomainEvent, DomainEvents, publishes_events

from .conftest import NewShop

CanvasShop = Callable[..., tuple[Celery, DomainEvents]]


@pytest.fixture
def canvas_shop(new_shop: NewShop, write_template: Callable[[str], Path]) -> CanvasShop:
    """Makes an app with the tasks a, b, c and d, and the template shop/order, version 1.0.0, of these steps."""

    def create(steps: str, **conf: object) -> tuple[Celery, DomainEvents]:
        path = write_template(f"name: order\nnamespace_name: shop\nversion: 1.0.0\nsteps: {steps}\n")
        app, events = new_shop(tasker_events_templates=[str(path)], **conf)
        for name in "abcd":

            @app.task(name=name, shared=False)
            @publishes_events("step.ended", delivery_mode="fast")
            def step(*results: object, **given: object) -> list[object]:
                return [*results, given]

        return app, events

    return create


DIAMOND = (
    "[{name: a}, {name: b, dependencies: [a]}, {name: c, depends_on: [a]}, {name: d, dependencies: [c, b]}]"  # both spellings
)


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ("[{name: a}]", Signature),
        ("[{name: a}, {name: b, dependencies: [a]}]", _chain),
        ("[{name: a}, {name: b}]", group),
        ("[{name: a}, {name: b}, {name: c, dependencies: [a, b]}]", _chord),
    ],
)
def test_it_is_an_ordinary_signature(canvas_shop: CanvasShop, steps: str, kind: type) -> None:
    _, events = canvas_shop(steps)

    canvas = events.canvas("shop/order")

    assert isinstance(canvas, kind)
    assert Signature.from_dict(dict(canvas)) == canvas


def test_it_says_what_the_caller_says_of_a_step(canvas_shop: CanvasShop) -> None:
    _, events = canvas_shop("[{name: a}]")

    canvas = events.canvas("shop/order", [1], {"by": "card"}, steps={"a": {"kwargs": {"by": "mail"}, "queue": "slow"}})

    assert (canvas.args, canvas.kwargs, canvas.options["queue"]) == ((1,), {"by": "mail"}, "slow")


def test_eager_steps_get_results_and_have_one_correlation_id(canvas_shop: CanvasShop) -> None:
    _, events = canvas_shop(DIAMOND, task_always_eager=True)
    heard: list[DomainEvent] = []
    events.subscribe("*")(heard.append)

    result = events.canvas("shop/order", ["paid"], correlation_id="order-7").apply_async()

    passed_on = [["paid", {}], {}]
    assert result.get() == [[passed_on, passed_on], {}]
    assert events.drain(30)
    assert sorted(event.metadata.step_name or "" for event in heard) == ["a", "b", "c", "d"]
    assert {event.metadata.correlation_id for event in heard} == {"order-7"}


def test_a_canvas_that_a_step_builds_has_the_steps_correlation_id(canvas_shop: CanvasShop) -> None:
    app, events = canvas_shop("[{name: a}]", task_always_eager=True)
    built: list[Signature] = []

    @app.task(name="outer", shared=False)
    def outer() -> None:
        built.append(events.canvas("shop/order"))

    with events.correlation("outer-1"):
        outer.delay()

    (canvas,) = built
    assert canvas.options["headers"] == {"tasker_correlation_id": "outer-1", "tasker_workflow": "shop/order"}


def test_a_canvas_is_one_run_with_a_root_of_its_own(canvas_shop: CanvasShop) -> None:
    _, events = canvas_shop("[{name: a}, {name: b}]")

    roots = [{task.options["root_id"] for task in events.canvas("shop/order").tasks} for _ in range(2)]

    assert [len(root) for root in roots] == [1, 1]
    assert roots[0] != roots[1]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("[]", "shop/order has no steps"),
        ("[{name: nobody}]", "step 'nobody' names no Celery task (nobody)"),
        ("[{name: a, handler: {task: gone}}]", "step 'a' names no Celery task (gone)"),
        ("[{name: a, dependencies: [z]}]", "step 'a' depends on 'z', which the template does not have"),
        ("[{name: a, dependencies: b}]", "step 'a': dependencies must be a list of steps' names, not 'b'"),
        ("[{name: a}, {name: b, dependencies: [a, a]}]", "step 'b' names a dependency twice"),
        ("[{name: a, dependencies: [b]}, {name: b, dependencies: [a]}]", "depend on each other in a circle"),
        (
            "[{name: a}, {name: b}, {name: c, dependencies: [a]}, {name: d, dependencies: [a, b]}]",
            "shop/order is no canvas: steps 'c' and 'd' both come after 'a'",
        ),
    ],
)
def test_what_is_wrong_with_a_template_is_told(canvas_shop: CanvasShop, steps: str, told: str) -> None:
    _, events = canvas_shop(steps)

    with pytest.raises(ConfigurationError) as caught:
        events.canvas("shop/order")

    assert told in str(caught.value)
    assert "template.yaml" in str(caught.value)


def test_what_is_wrong_in_a_call_is_told(canvas_shop: CanvasShop) -> None:
    _, events = canvas_shop("[{name: a}]")

    with pytest.raises(ConfigurationError, match=r"no task template is named 'shop/ordr'.*Did you mean 'shop/order'"):
        events.canvas("shop/ordr")
    with pytest.raises(ConfigurationError, match=r"shop/order has version '1.0.0', not '2.0.0'"):
        events.canvas("shop/order", version="2.0.0")
    with pytest.raises(ConfigurationError) as caught:
        events.canvas("shop/order", steps={"b": {}, "a": {"que": "slow"}})
    assert "shop/order has no step 'b'" in str(caught.value)
    assert "unknown key 'que' for step 'a'. Did you mean 'queue'?" in str(caught.value)
