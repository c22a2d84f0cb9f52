"""Where one process counts: alone, or in a worker together with the other processes of that."""

from __future__ import annotations

from celery_tasker_events.telemetry.board import Board, Reading
from celery_tasker_events.telemetry.log import error_fields, logger
from celery_tasker_events.telemetry.sheet import Sheet
from celery_tasker_events.telemetry.totals import Totals

__all__ = ["Tally"]


class Tally:
    """The sheet of this process, and the board of its worker; outside a worker there is none, and no file."""

    def __init__(self) -> None:
        self.sheet = Sheet()
        self._board: Board | None = None

    def open_board(self) -> None:
        """Let all processes of this worker count in one place from now on: for its main process, before it forks the first.

        If that can't be had, it is logged, and each process counts for itself.
        """
        if self._board is not None:
            return
        try:
            board = Board()
        except OSError as error:
            logger.warning("Each process of this worker counts for itself: %s", error, extra=error_fields(error))
            return
        self.sheet.give_file(board.make_file)
        self.sheet.open()
        if self.sheet.is_in_file:
            self._board = board
        else:
            board.remove()

    def remove_board(self) -> None:
        """Count alone again: for the main process, at the worker's end. In any other process nothing happens."""
        board = self._board
        if board is not None and board.is_of_this_process:
            self._board = None
            self.sheet.detach()
            board.remove()

    def totals(self) -> Totals:
        """The sums over all processes of this worker, or over this one alone.

        Raises:
            OSError: if the board can't be read.
        """
        board = self._board
        if board is not None:
            reading = board.read()
            # Of one that was removed meanwhile, some sheets may be missing.
            if self._board is board:
                return Totals.of(reading, is_complete=True)
        return Totals.of(Reading.of_one(self.sheet.values()), is_complete=False)

    def after_fork_in_child(self) -> None:
        """Begin to count anew, on the same board."""
        self.sheet.after_fork_in_child()
        self.sheet = Sheet() if self._board is None else self._board.new_sheet()
