"""``check``: are the task templates right? With an app (``celery -A``) or without (``celery-tasker-events``)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from celery_tasker_events.cli.app import plugin_of
from celery_tasker_events.cli.checking import Report, check_app
from celery_tasker_events.cli.declared import as_pattern, files_report
from celery_tasker_events.errors import Problem

__all__ = ["check"]


@click.command(name="check")
@click.option("--strict", is_flag=True, help="Take warnings, such as an unknown field, for errors.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--environment", help="Whose overrides count; by default tasker_events_environment of the app.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.pass_context
def check(ctx: click.Context, strict: bool, form: str, environment: str | None, files: tuple[str, ...]) -> None:
    """Check task templates: their fields, schemas and publishers; with an app also whether their steps are its tasks.

    A FILE may be a glob pattern; without any the app's tasker_events_templates are checked. Exits with 1 if something
    is wrong.
    """
    patterns = [as_pattern(file) for file in files]
    if ctx.obj is not None:
        report = check_app(plugin_of(ctx), patterns, environment)
    elif patterns:
        report = files_report(patterns, environment)
    else:
        raise click.UsageError("no task template: give files or patterns, such as 'config/tasks/**/*.yaml'")
    findings = sorted(_findings(report, strict), key=lambda finding: (finding[1].source, finding[1].line or 0))
    click.echo(_as_json(report, findings) if form == "json" else _as_text(report, findings))
    if any(severity == "error" for severity, _ in findings):
        ctx.exit(1)


def _findings(report: Report, strict: bool) -> Iterator[tuple[str, Problem]]:
    yield from (("error", problem) for problem in report.errors)
    yield from (("error" if strict else "warning", problem) for problem in report.warnings)
    yield from (("note", problem) for problem in report.notes)


def _as_text(report: Report, findings: list[tuple[str, Problem]]) -> str:
    return "\n".join([*(_line(severity, problem) for severity, problem in findings), _summary(report, findings)])


def _line(severity: str, problem: Problem) -> str:
    if severity == "error":
        return str(problem)
    return str(Problem(f"{severity}: {problem.message}", problem.source, problem.line))


def _summary(report: Report, findings: list[tuple[str, Problem]]) -> str:
    counts = _counts(report, findings)
    words = [f"{number} {name if number != 1 else name.removesuffix('s')}" for name, number in counts.items()]
    return f"{', '.join(words[:3])}: {', '.join(words[3:])}"


def _counts(report: Report, findings: list[tuple[str, Problem]]) -> dict[str, int]:
    severities = [severity for severity, _ in findings]
    return {
        "templates": len(report.templates),
        "steps": len(report.steps()),
        "events": len(report.events()),
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
    }


def _as_json(report: Report, findings: list[tuple[str, Problem]]) -> str:
    document = {
        "templates": [
            {
                "name": template.name,
                "namespace": template.namespace,
                "version": template.version,
                "description": template.description,
                "file": template.source,
            }
            for template in report.templates
        ],
        "steps": report.steps(),
        "events": report.events(),
        "problems": [
            {"severity": severity, "file": problem.source or None, "line": problem.line, "message": problem.message}
            for severity, problem in findings
        ],
        "summary": _counts(report, findings),
    }
    return json.dumps(document, indent=2)
