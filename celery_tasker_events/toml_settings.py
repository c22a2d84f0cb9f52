"""Settings in the reference system's own TOML layout: ``base/worker.toml``, overlaid by that of an environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from celery_tasker_events.errors import Problem, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SECTIONS", "TomlSettings", "TomlValue", "read_toml"]

#: The sections that are ours, and the settings in each. Everything else in such a file belongs to others.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "worker.mpsc_channels.in_process_events": (
        "broadcast_buffer_size",
        "log_subscriber_errors",
        "dispatch_timeout_ms",
    ),
    "worker.mpsc_channels.domain_events": (
        "command_buffer_size",
        "shutdown_drain_timeout_ms",
        "log_dropped_events",
    ),
    "worker.event_systems.worker.metadata.in_process_events": (
        "ffi_integration_enabled",
        "deduplication_cache_size",
    ),
}


@dataclass(frozen=True)
class TomlValue:
    """One setting as a file gives it, not checked yet.

    Attributes:
        section: Dotted name of its section.
        setting: Name of the setting, without the prefix that Celery's keys have.
        path: The file.
    """

    section: str
    setting: str
    value: Any
    path: Path

    def problem(self, message: str) -> Problem:
        """Return the problem of this value, with its file and its dotted key."""
        return Problem(f"{self.section}.{self.setting}: {message}", str(self.path))


@dataclass
class TomlSettings:
    """What the files give, the base first and its overlay after it, and what is wrong with the files themselves."""

    values: list[TomlValue] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_toml(config_dir: str, environment: str | None) -> TomlSettings:
    """Read ``base/worker.toml`` in that folder and, if there is one, ``environments/<environment>/worker.toml``.

    Nothing is raised: what is wrong is told in the result's ``problems``.
    """
    base = Path(config_dir, "base", "worker.toml")
    result = TomlSettings()
    if not base.is_file():
        result.problems.append(
            Problem(
                f"there is no file {base}: name the folder that holds base/worker.toml"
                if Path(config_dir).is_dir()
                else f"there is no folder {config_dir!r} (looked in {Path.cwd()})",
                "tasker_events_config_dir",
            )
        )
        return result
    _read_file(base, result)
    if environment is not None:
        overlay = Path(config_dir, "environments", environment, "worker.toml")
        if overlay.is_file():
            _read_file(overlay, result)
    return result


def _read_file(path: Path, result: TomlSettings) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        result.problems.append(Problem(f"can't be read: {error}", str(path)))
        return
    for section in SECTIONS:
        table = _table(document, section, path, result)
        for key, value in table.items():
            if key in SECTIONS[section]:
                result.values.append(TomlValue(section, key, value, path))
            else:
                result.problems.append(Problem(f"{section}.{key}: unknown setting.{_remedy(section, key)}", str(path)))


def _table(document: Mapping[str, Any], section: str, path: Path, result: TomlSettings) -> Mapping[str, Any]:
    table: Any = document
    for name in _prefixes(section):
        table = table.get(name.rpartition(".")[2], {})
        if not isinstance(table, Mapping):
            problem = Problem(f"{name}: must be a table, not {table!r}", str(path))
            # Two of the sections share their first part, which is wrong only once.
            if problem not in result.problems:
                result.problems.append(problem)
            return {}
    return cast("Mapping[str, Any]", table)


def _prefixes(section: str) -> Iterator[str]:
    parts = section.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _remedy(section: str, key: str) -> str:
    for other, keys in SECTIONS.items():
        if key in keys:
            return f" It belongs to [{other}]."
    return did_you_mean(key, SECTIONS[section])
