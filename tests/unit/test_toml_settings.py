"""Settings from the reference system's TOML files: base, overlay, Celery's keys above both, and how mistakes are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import DomainEvents
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.settings import PREFIX, Settings

IN_PROCESS = "worker.mpsc_channels.in_process_events"
DOMAIN = "worker.mpsc_channels.domain_events"
METADATA = "worker.event_systems.worker.metadata.in_process_events"

WHOLE_BASE = f"""
environment = "development"

[worker]
worker_id = "worker-001"

[worker.mpsc_channels.command_processor]
command_buffer_size = 3

[{IN_PROCESS}]
broadcast_buffer_size = 2001
log_subscriber_errors = false
dispatch_timeout_ms = 5001

[{DOMAIN}]
command_buffer_size = 1001
shutdown_drain_timeout_ms = 5002
log_dropped_events = false

[worker.event_systems.worker]
system_id = "worker-event-system"

[{METADATA}]
ffi_integration_enabled = false
deduplication_cache_size = 10001
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the base, or the overlay of an environment, and returns the file's path."""

    def write(text: str | bytes, environment: str | None = None) -> Path:
        folder = tmp_path / "base" if environment is None else tmp_path / "environments" / environment
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "worker.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def settings_of(folder: Path, /, **given: Any) -> Settings:
    return Settings.from_conf({PREFIX + key: value for key, value in {"config_dir": str(folder), **given}.items()})


def problems_of(folder: Path, /, **given: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(folder, **given)
    return [str(problem) for problem in caught.value.problems]


def test_every_setting_of_the_three_sections_is_read_and_all_else_belongs_to_others(tmp_path: Path, write: Write) -> None:
    write(WHOLE_BASE)

    assert settings_of(tmp_path) == Settings(
        config_dir=str(tmp_path),
        broadcast_buffer_size=2001,
        log_subscriber_errors=False,
        dispatch_timeout_ms=5001,
        command_buffer_size=1001,
        shutdown_drain_timeout_ms=5002,
        log_dropped_events=False,
        ffi_integration_enabled=False,
        deduplication_cache_size=10001,
    )


def test_an_overlay_replaces_what_it_names_and_leaves_the_rest(tmp_path: Path, write: Write) -> None:
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 11\ndispatch_timeout_ms = 12\n")
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 21\n[{DOMAIN}]\ncommand_buffer_size = 22\n", "production")
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 31\n", "test")

    settings = settings_of(tmp_path, environment="production")

    assert (settings.broadcast_buffer_size, settings.dispatch_timeout_ms, settings.command_buffer_size) == (21, 12, 22)


def test_without_an_environment_only_the_base_counts(tmp_path: Path, write: Write) -> None:
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 11\n")
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 21\n", "production")

    assert settings_of(tmp_path).broadcast_buffer_size == 11


def test_an_environment_needs_no_overlay(tmp_path: Path, write: Write) -> None:
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 11\n")

    assert settings_of(tmp_path, environment="staging").broadcast_buffer_size == 11


def test_celerys_configuration_wins_over_both_files(tmp_path: Path, write: Write) -> None:
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 11\nlog_subscriber_errors = true\n")
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 21\n", "test")

    settings = settings_of(tmp_path, environment="test", broadcast_buffer_size=99, log_subscriber_errors=False)

    assert (settings.broadcast_buffer_size, settings.log_subscriber_errors) == (99, False)


def test_an_app_with_celerys_namespace_works_with_what_the_files_say(
    tmp_path: Path, write: Write, new_shop: Callable[..., tuple[Celery, DomainEvents]]
) -> None:
    write(WHOLE_BASE.replace("ffi_integration_enabled = false", "ffi_integration_enabled = true"))
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 2\n[{DOMAIN}]\nshutdown_drain_timeout_ms = 21\n", "production")
    app, events = new_shop()
    configured = {"CONFIG_DIR": str(tmp_path), "ENVIRONMENT": "production", "COMMAND_BUFFER_SIZE": 99}
    app.config_from_object(
        SimpleNamespace(**{f"CELERY_TASKER_EVENTS_{key}": value for key, value in configured.items()}), namespace="CELERY"
    )

    stream = events.stream()
    for number in range(5):
        events.publish("order.counted", {"number": number}, delivery_mode="fast")
    assert events.drain(30)
    events.close(5)

    assert [event.payload["number"] for event in stream] == [3, 4], "the overlay's buffer keeps the last two"
    settings = events.settings
    assert (settings.command_buffer_size, settings.shutdown_drain_timeout_ms, settings.dispatch_timeout_ms) == (99, 21, 5001)


def test_none_in_celerys_configuration_leaves_it_to_the_file(tmp_path: Path, write: Write) -> None:
    write(f"[{IN_PROCESS}]\nbroadcast_buffer_size = 11\n")

    assert settings_of(tmp_path, broadcast_buffer_size=None).broadcast_buffer_size == 11


# Mistakes


def test_a_bad_value_is_told_with_file_key_and_range(tmp_path: Path, write: Write) -> None:
    path = write(f"[{IN_PROCESS}]\ndispatch_timeout_ms = 0\n")

    assert problems_of(tmp_path) == [f"{path}: {IN_PROCESS}.dispatch_timeout_ms: must be a whole number from 1 to 3600000, not 0"]


@pytest.mark.parametrize("value", ['"1000"', "1.5", "true", "[1]"])
def test_a_value_of_another_type_is_told(tmp_path: Path, write: Write, value: str) -> None:
    path = write(f"[{DOMAIN}]\ncommand_buffer_size = {value}\n")

    [problem] = problems_of(tmp_path)
    assert problem.startswith(f"{path}: {DOMAIN}.command_buffer_size: must be a whole number from 1 to 10000000, not ")


def test_a_bad_value_is_told_even_where_another_overrides_it(tmp_path: Path, write: Write) -> None:
    base = write(f"[{METADATA}]\nffi_integration_enabled = 1\n")
    overlay = write(f"[{METADATA}]\nffi_integration_enabled = 2\n", "test")

    assert problems_of(tmp_path, environment="test", ffi_integration_enabled=True) == [
        f"{base}: {METADATA}.ffi_integration_enabled: must be True or False, not 1",
        f"{overlay}: {METADATA}.ffi_integration_enabled: must be True or False, not 2",
    ]


def test_an_unknown_key_in_our_sections_gets_the_closest_known_one(tmp_path: Path, write: Write) -> None:
    path = write(f"[{DOMAIN}]\nlog_droped_events = true\n")

    assert problems_of(tmp_path) == [f"{path}: {DOMAIN}.log_droped_events: unknown setting. Did you mean 'log_dropped_events'?"]


def test_a_key_of_another_of_our_sections_is_sent_there(tmp_path: Path, write: Write) -> None:
    path = write(f"[{DOMAIN}]\ndispatch_timeout_ms = 5\n")

    assert problems_of(tmp_path) == [f"{path}: {DOMAIN}.dispatch_timeout_ms: unknown setting. It belongs to [{IN_PROCESS}]."]


def test_a_section_that_is_no_table_is_told_once(tmp_path: Path, write: Write) -> None:
    path = write("worker.mpsc_channels = 5\n")

    assert problems_of(tmp_path) == [f"{path}: worker.mpsc_channels: must be a table, not 5"]


def test_a_folder_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert problems_of(Path("conf")) == [f"tasker_events_config_dir: there is no folder 'conf' (looked in {tmp_path})"]


def test_a_folder_without_a_base_file_is_told(tmp_path: Path, write: Write) -> None:
    write("", "test")

    [problem] = problems_of(tmp_path, environment="test")
    assert problem.startswith(f"tasker_events_config_dir: there is no file {tmp_path / 'base' / 'worker.toml'}")


@pytest.mark.parametrize("text", [b"[worker\n", b'key = "\xff"\n'], ids=["syntax", "not UTF-8"])
def test_a_file_that_can_not_be_read_is_told_with_the_reason(tmp_path: Path, write: Write, text: bytes) -> None:
    path = write(text)

    [problem] = problems_of(tmp_path)
    assert problem.startswith(f"{path}: can't be read: ")


@pytest.mark.parametrize("given", [{"config_dir": 3}, {"environment": 3}], ids=str)
def test_where_the_files_are_named_badly_none_is_read(tmp_path: Path, write: Write, given: dict[str, Any]) -> None:
    write("[worker\n")

    [problem] = problems_of(tmp_path, **given)
    assert problem.startswith(f"tasker_events_{next(iter(given))}: must be a string")


def test_all_mistakes_of_all_sources_are_told_at_once(tmp_path: Path, write: Write) -> None:
    write(f"[{DOMAIN}]\ncommand_buffer_size = 0\nsize = 1\n")

    assert len(problems_of(tmp_path, dispatch_timeout_ms=0)) == 3
