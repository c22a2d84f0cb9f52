"""Every setting: its default, its range, and how a mistake in it is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.errors import ConfigurationError, did_you_mean
from celery_tasker_events.settings import PREFIX, Settings, masked_dsn

BUFFERS = ["command_buffer_size", "durable_buffer_size", "broadcast_buffer_size"]
MILLISECONDS = ["dispatch_timeout_ms", "shutdown_drain_timeout_ms"]
FLAGS = ["log_dropped_events", "log_subscriber_errors"]
LISTS = ["templates", "publishers"]
SECRET = "s3cr3t-P4ss"


def settings_of(**given_settings: Any) -> Settings:
    return Settings.from_conf({PREFIX + key: value for key, value in given_settings.items()})


def problem_of(**given_settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(**given_settings)
    [problem] = caught.value.problems
    return str(problem)


def test_without_any_key_every_setting_has_its_default() -> None:
    assert Settings.from_conf({"broker_url": "memory://"}) == Settings()


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Settings) if field.name != "namespace_dsns"])
def test_none_means_the_default(key: str) -> None:
    assert settings_of(**{key: None}) == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dsn", "postgresql://shop@db/events"),
        ("dsn", "host=db dbname=events"),
        ("templates", ["a/*.yaml", "b.yaml"]),
        ("publishers", ("shop.publishers.Payment",)),
        ("namespace", "payments"),
        *[("metrics_port", edge) for edge in (0, 65_535)],
        ("metrics_host", "0.0.0.0"),  # an address that a user may set
        *[(key, edge) for key in BUFFERS for edge in (1, 10_000_000)],
        *[(key, edge) for key in MILLISECONDS for edge in (1, 3_600_000)],
        *[(key, flag) for key in FLAGS for flag in (True, False)],
    ],
)
def test_an_allowed_value_is_taken_over(key: str, value: Any) -> None:
    assert getattr(settings_of(**{key: value}), key) == value


@pytest.mark.parametrize("value", [0, -1, 10_000_001, 1.5, "1000", True, [1]])
@pytest.mark.parametrize("key", BUFFERS)
def test_a_bad_buffer_size_is_told_with_the_range(key: str, value: Any) -> None:
    assert problem_of(**{key: value}) == f"tasker_events_{key}: must be a whole number from 1 to 10000000, not {value!r}"


@pytest.mark.parametrize("value", [0, -1, 3_600_001, 0.5, "5000", False])
@pytest.mark.parametrize("key", MILLISECONDS)
def test_a_bad_timeout_is_told_with_the_range(key: str, value: Any) -> None:
    assert problem_of(**{key: value}) == f"tasker_events_{key}: must be a whole number from 1 to 3600000, not {value!r}"


@pytest.mark.parametrize("value", [-1, 65_536, "9808", True])
def test_a_bad_port_is_told_with_the_range(value: Any) -> None:
    assert problem_of(metrics_port=value) == f"tasker_events_metrics_port: must be a whole number from 0 to 65535, not {value!r}"


@pytest.mark.parametrize("value", [0, 1, "true", "False", []])
@pytest.mark.parametrize("key", FLAGS)
def test_a_bad_flag_is_told(key: str, value: Any) -> None:
    assert problem_of(**{key: value}) == f"tasker_events_{key}: must be True or False, not {value!r}"


@pytest.mark.parametrize("value", ["config/*.yaml", [1], {"a": "b"}, 3])
@pytest.mark.parametrize("key", LISTS)
def test_a_bad_list_is_told(key: str, value: Any) -> None:
    assert problem_of(**{key: value}) == f"tasker_events_{key}: must be a list of strings, not {value!r}"


@pytest.mark.parametrize("value", ["Payments", "a.b", "", "n" * 30, 7])
def test_a_bad_namespace_is_told(value: Any) -> None:
    assert problem_of(namespace=value).startswith("tasker_events_namespace: ")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("templtes", "tasker_events_templtes: unknown setting. Did you mean 'tasker_events_templates'?"),
        ("dispatch_timeout", "Did you mean 'tasker_events_dispatch_timeout_ms'?"),
    ],
)
def test_an_unknown_key_gets_the_closest_known_one(key: str, told: str) -> None:
    assert told in problem_of(**{key: 1})


def test_all_bad_keys_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(namespace="N", dispatch_timeout_ms=0, colour="red")

    assert {problem.source for problem in caught.value.problems} == {
        "tasker_events_namespace",
        "tasker_events_dispatch_timeout_ms",
        "tasker_events_colour",
    }


def test_a_celery_configuration_in_djangos_namespace_is_read() -> None:
    app = Celery("shop")
    app.config_from_object({"CELERY_TASKER_EVENTS_NAMESPACE": "payments"}, namespace="CELERY")

    assert Settings.from_conf(app.conf, "CELERY").namespace == "payments"


@pytest.mark.parametrize(
    ("namespace", "key", "right"),
    [
        ("CELERY", "TASKER_EVENTS_NAMESPACE", "CELERY_TASKER_EVENTS_NAMESPACE"),
        ("CELERY", "CELERY_tasker_events_namespace", "CELERY_TASKER_EVENTS_NAMESPACE"),
        ("", "TASKER_EVENTS_NAMESPACE", "tasker_events_namespace"),
    ],
)
def test_a_key_that_celery_does_not_read_is_told_with_the_one_that_it_reads(namespace: str, key: str, right: str) -> None:
    app = Celery("shop")
    app.config_from_object({key: "payments"}, namespace=namespace or None)

    with pytest.raises(ConfigurationError, match=f"{key}: .* write it as {right}$"):
        Settings.from_conf(app.conf, namespace)


# The password


def test_the_dsn_is_no_part_of_the_settings_repr() -> None:
    assert SECRET not in repr(settings_of(dsn=f"postgresql://u:{SECRET}@h/d"))


@pytest.mark.parametrize(
    "dsn",
    [f"postgresql://u:{SECRET}@[bad/d", f"password={SECRET} nonsense", f"{SECRET}", f"password={SECRET} pasword=x", [SECRET], 3],
)
def test_a_bad_dsn_is_told_without_repeating_it(dsn: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(dsn=dsn)

    told = caught.value
    assert str(told).startswith("tasker_events_dsn: ")
    assert "postgresql://user@host/database" in str(told)
    while told is not None:
        assert SECRET not in f"{told!r} {told.args}"
        told = told.__cause__ or told.__context__


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@db:5432/events",
        f"postgresql://u@db/events?password={SECRET}",
        f"host=db user=u password={SECRET} dbname=events",
        f"host=db user=u password='{SECRET}' sslpassword={SECRET} dbname=events",
        f"host=db user=u oauth_client_secret={SECRET} dbname=events",
    ],
)
def test_a_masked_dsn_shows_all_but_the_secrets(dsn: str) -> None:
    masked = masked_dsn(dsn)

    assert SECRET not in masked
    assert "***" in masked
    assert {"host=db", "user=u", "dbname=events"} <= set(masked.split())


def test_a_dsn_without_a_password_needs_no_mask() -> None:
    assert masked_dsn("postgresql://u@db/events") == "user=u dbname=events host=db"


def test_of_a_dsn_that_can_not_be_read_nothing_is_shown() -> None:
    assert masked_dsn(f"postgresql://u:{SECRET}@[bad") == "***"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=30))
def test_no_password_shows_through_its_mask(rest: str) -> None:
    quoted = ("MARK" + rest).replace("\\", "\\\\").replace("'", "\\'")

    masked = masked_dsn(f"host=db password='{quoted}' user=u")

    assert "MARK" not in masked
    assert set(masked.split()) == {"host=db", "password=***", "user=u"}


# The wording that all mistakes share


def test_a_close_word_is_proposed_and_else_all_are_listed() -> None:
    assert did_you_mean("sucess", ["failure", "success"]) == " Did you mean 'success'?"
    assert did_you_mean("xyz", ["success", "failure"]) == " Known: failure, success."


def test_where_no_word_is_known_none_is_listed() -> None:
    assert did_you_mean("xyz", []) == ""


ONE, TWO = "postgresql://shop@one/shop", "postgresql://shop:secret@two/shop"


def test_namespaces_may_have_databases_of_their_own() -> None:
    settings = Settings.from_conf({"tasker_events_dsn": {"payments": TWO, "audit": TWO, "*": ONE}})

    assert settings.dsn_of("payments") == TWO
    assert settings.dsn_of("anything") == ONE
    assert settings.dsns == (ONE, TWO)
    assert "secret" not in repr(settings)


def test_a_mapping_need_not_name_a_database_for_all_others() -> None:
    settings = Settings.from_conf({"tasker_events_dsn": {"payments": TWO}})

    assert (settings.dsn_of("payments"), settings.dsn_of("audit"), settings.dsns) == (TWO, None, (TWO,))


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({}, "is an empty mapping"),
        ({"Not One": ONE}, "maps namespaces to DSNs, and '*' to that of all others"),
        ({"payments": None}, "for namespace 'payments' must be a string"),
        ({"payments": "secret"}, "for namespace 'payments' is not a connection string"),
        ({3: ONE}, "maps namespaces to DSNs"),
    ],
)
def test_a_bad_mapping_is_refused_without_repeating_a_dsn(mapping: dict[Any, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_conf({"tasker_events_dsn": mapping})

    assert f"tasker_events_dsn: {problem}" in str(caught.value)
    assert "secret" not in str(caught.value)
