"""How a command tells its result: as text or JSON, on stdout or in the file that ``--output`` names."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["format_option", "write"]

#: Gives a command ``--format``, and its function the argument ``form``.
format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)


def write(text: str, output: Path | None) -> None:
    """Write a text, with a newline at its end.

    Raises:
        click.FileError: if the file can't be written.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror) from error
