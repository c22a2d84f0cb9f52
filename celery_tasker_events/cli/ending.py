"""Ends a command cleanly when it is told to: by SIGTERM, or because nobody reads its output any more."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click

__all__ = ["READER_GONE", "TERMINATED", "ended_cleanly"]

#: Exit codes as a shell gives them: 128 and the signal's number.
TERMINATED = 128 + signal.SIGTERM
READER_GONE = 128 + signal.SIGPIPE


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """For the ``with`` block, close what is open at SIGTERM and at a broken pipe, then exit without a word.

    Raises:
        click.exceptions.Exit: 141, if the reader of the output is gone.
        SystemExit: 143, at SIGTERM.
    """
    with _terminable():
        try:
            yield
        except BrokenPipeError:
            # What is still buffered would break the pipe once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(READER_GONE) from None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there a handler can be set
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(TERMINATED)
