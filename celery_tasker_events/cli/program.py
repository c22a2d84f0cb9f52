"""Programs in any language as handlers: one that answers line by line, or a process for each event. No shell is involved."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence

import click

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import Rejected, RetryLater
from celery_tasker_events.consumer.handling import Interrupted
from celery_tasker_events.errors import TaskerEventsError
from celery_tasker_events.event import DomainEvent

__all__ = ["EachProgram", "ProgramFailed", "Programs", "command_of"]

#: Exit code of a program that is started for one event: no attempt can help. It is EX_DATAERR of sysexits.h.
REJECTED = 65

#: Seconds that a program may take to end after its input has ended.
PATIENCE = 10.0

#: What of an answer is kept at most, in characters.
LONGEST_ANSWER = 4096


class ProgramFailed(TaskerEventsError):
    """The program said that it has not handled an event, or did not say anything."""


def command_of(text: str) -> Sequence[str]:
    """Split a command into words as a POSIX shell does, and see that its program is there.

    Raises:
        click.BadParameter: if it is no command, or if there is no such program.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error
    if not words:
        raise click.BadParameter("the command is empty")
    if shutil.which(words[0]) is None:
        raise click.BadParameter(f"there is no program {words[0]!r}")
    return words


class Programs:
    """One long-living program for each thread that handles events: it gets a line for each event, and answers with a line.

    Args:
        ended: Called when a program has ended without being asked to; its message is for people.
    """

    def __init__(self, command: Sequence[str], ended: Callable[[str], None]) -> None:
        self._command = command
        self._ended = ended
        self._of_thread = threading.local()
        self._all: list[subprocess.Popen[str]] = []

    def __call__(self, event: DomainEvent, delivery: Delivery) -> None:
        program = self._program()
        try:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(delivery.body + "\n")
            program.stdin.flush()
            answer = program.stdout.readline(LONGEST_ANSWER)
        except OSError:
            answer = ""
        if not answer.endswith("\n"):
            # Its fault or the event's: who starts this program again will see, after some more attempts of the event.
            code = self._end(program, patience=PATIENCE if not answer else 0)
            self._ended(f"{self._command[0]} ended with exit code {code} in answer to event {event.event_id}, not with a line")
            raise Interrupted
        _judge(answer.strip())

    def close(self) -> None:
        """End the programs: their input ends, and who does not go then is terminated."""
        for program in self._all:
            with contextlib.suppress(OSError):
                assert program.stdin is not None
                program.stdin.close()
        for program in self._all:
            self._end(program, PATIENCE)

    def _program(self) -> subprocess.Popen[str]:
        program: subprocess.Popen[str] | None = getattr(self._of_thread, "program", None)
        if program is None:
            # In a session of its own: a Ctrl-C is for us, and reaches the program as the end of its input.
            program = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
            )
            self._of_thread.program = program
            self._all.append(program)
        return program

    def _end(self, program: subprocess.Popen[str], patience: float) -> int:
        try:
            code = program.wait(patience)
        except subprocess.TimeoutExpired:
            program.kill()
            code = program.wait()
        for pipe in (program.stdin, program.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code


class EachProgram:
    """A process for each event, which gets it on its standard input; its exit code says how it went."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    def __call__(self, event: DomainEvent, delivery: Delivery) -> None:
        program = subprocess.run(self._command, input=delivery.body + "\n", text=True, encoding="utf-8", start_new_session=True)
        if program.returncode == REJECTED:
            raise Rejected(f"{self._command[0]} ended with exit code {REJECTED}")
        if program.returncode != 0:
            raise ProgramFailed(f"{self._command[0]} ended with exit code {program.returncode}")


def _judge(answer: str) -> None:
    """Turn a program's answer into what a handler would do."""
    word, _, rest = answer.partition(" ")
    if word == "ok":
        return
    if word == "error:":
        raise ProgramFailed(rest or "the program gave no reason")
    if word == "reject:":
        raise Rejected(rest or "the program gave no reason")
    if word == "retry" and rest.isdecimal():
        raise RetryLater(int(rest), "the program asked for a later attempt")
    raise ProgramFailed(f"the program answered {answer!r}, not 'ok', 'error: <why>', 'reject: <why>' or 'retry <seconds>'")
