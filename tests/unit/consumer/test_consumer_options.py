"""What a consumer can be given, and what it says about the rest."""

from __future__ import annotations

import pytest

from celery_tasker_events import ConfigurationError
from celery_tasker_events.consumer import Consumer, MemoryStore, PostgresStore

DSN = "dbname=x"


@pytest.mark.parametrize(
    ("names", "queues"),
    [
        (["payments"], ("payments_domain_events",)),
        (["payments_domain_events", "payments"], ("payments_domain_events",)),
        (["a", "b_domain_events"], ("a_domain_events", "b_domain_events")),
    ],
)
def test_a_namespace_or_a_queue_names_what_is_read(names, queues):
    assert Consumer(DSN, *names).queues == queues


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "nothing to consume"),
        ([""], "an empty name"),
        (["pay ments"], "'pay ments' is no namespace"),
        (["x" * 40], "of 47 characters at most"),
        (["payments_domain_events_dlq"], "holds dead letters"),
    ],
)
def test_what_is_no_namespace_is_refused(names, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Consumer(DSN, *names)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"visibility_timeout": 2},
        {"visibility_timeout": 30.5},
        {"max_attempts": 0},
        {"batch_size": 0},
        {"on_success": "keep"},
        {"unmatched": "leave"},
        {"poll_interval": 0},
        {"poll_interval": float("nan")},
        {"shutdown_timeout": -1},
        {"backoff": 5},
        {"store": "memory"},
    ],
)
def test_a_wrong_option_is_named(options):
    (name,) = options

    with pytest.raises(ConfigurationError, match=name):
        Consumer(DSN, "payments", **options)


def test_a_bad_dsn_is_refused_without_being_repeated():
    with pytest.raises(ConfigurationError) as caught:
        Consumer("s3cret nonsense", "payments")

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("patterns", [[], ["payment"], ["payment.*", ""], [5]])
def test_what_is_no_pattern_is_refused(patterns):
    with pytest.raises(ConfigurationError):
        Consumer(DSN, "payments").on(*patterns)


def test_without_handlers_it_does_not_run():
    with pytest.raises(ConfigurationError, match="has no handlers"):
        Consumer(DSN, "payments").run()


def test_a_store_can_not_tell_two_handlers_of_one_name_apart():
    consumer = Consumer(DSN, "payments", store=MemoryStore())
    consumer.on("*", name="book")(print)

    with pytest.raises(ConfigurationError, match="there is a handler 'book' already"):
        consumer.on("*", name="book")(repr)


@pytest.mark.parametrize("options", [{"table": "a b"}, {"table": 'x"; drop'}, {"retention": 0}, {"claim_expiry": -1}])
def test_a_store_that_can_not_be_is_refused(options):
    with pytest.raises(ConfigurationError):
        PostgresStore(**options)
    with pytest.raises(ValueError, match="size"):
        MemoryStore(0)
