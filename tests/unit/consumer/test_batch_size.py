"""How many messages a consumer holds adapts to how fast they are handled."""

from __future__ import annotations

from celery_tasker_events.consumer.reading import BatchSize


class Handled:
    """Lets time pass as if each event took so many seconds to handle, and each read so many."""

    def __init__(self, least: int, most: int = 500) -> None:
        self.batch = BatchSize(least, most)
        self._now = 0.0

    def run(self, batches: int, *, each: float, read: float = 0.001, full: bool = True) -> int:
        """Handle that many batches, and return the size that has come of it."""
        for _ in range(batches):
            self.batch.about_to_read(self._now)
            self._now += read
            self.batch.has_read(self._now, read, full=full)
            self._now += each * max(1, self.batch.size // 4)
        return self.batch.size


def test_a_slow_handler_holds_no_more_than_it_handles_at_once():
    assert Handled(1).run(20, each=1.0) == 1
    assert Handled(4).run(20, each=1.0) == 4


def test_a_quick_handler_holds_about_what_it_handles_in_a_second():
    assert 500 <= Handled(1, most=5000).run(30, each=0.001) <= 2000


def test_it_never_holds_more_than_the_most():
    assert Handled(1, most=100).run(30, each=0.0001) == 100


def test_a_handler_that_becomes_slow_holds_less_again():
    handled = Handled(1)
    assert handled.run(30, each=0.0001) == 500

    assert handled.run(30, each=1.0) == 1


def test_where_reading_takes_long_more_is_held():
    assert Handled(1).run(30, each=0.01, read=2.0) > Handled(1).run(30, each=0.01)


def test_a_read_that_found_less_than_it_asked_for_says_nothing():
    assert Handled(1).run(30, each=0.0001, full=False) == 1


def test_there_is_room_when_a_quarter_has_been_handled():
    batch = BatchSize(8, 8)

    assert [batch.room(held) for held in (8, 7, 6, 4, 0)] == [0, 0, 2, 4, 8]
    assert BatchSize(1, 1).room(0) == 1
