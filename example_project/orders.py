"""The orders of a run, and what is to become of each: the run checks itself against this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from example_project import gateway


@dataclass(frozen=True)
class Expectation:
    """What must become of a payment.

    Attributes:
        durable: Events that an external consumer must find in PGMQ.
        in_process: Events that the subscribers in the worker must count.
    """

    paid: bool
    attempts: int
    durable: Sequence[str]
    in_process: Sequence[str]


_PAID = Expectation(True, 1, ["payment.processed"], ["payment.validated", "payment.processed"])

EXPECTED = {
    gateway.APPROVED: _PAID,
    gateway.ALSO_APPROVED: _PAID,
    gateway.TIMES_OUT_TWICE: Expectation(
        True, 3, ["payment.processed"], ["payment.validated", *["payment.retried"] * 2, "payment.processed"]
    ),
    gateway.ALWAYS_TIMES_OUT: Expectation(False, 4, ["payment.failed"], ["payment.validated", *["payment.retried"] * 3]),
    gateway.DECLINED: Expectation(False, 1, ["payment.failed"], ["payment.validated"]),
    gateway.MISTYPED: Expectation(False, 1, ["payment.failed"], []),
}

# Eight orders, of which five are paid, two of them after a retry; more orders begin again from the first.
_CARDS = [
    gateway.APPROVED,
    gateway.TIMES_OUT_TWICE,
    gateway.DECLINED,
    gateway.ALSO_APPROVED,
    gateway.MISTYPED,
    gateway.TIMES_OUT_TWICE,
    gateway.APPROVED,
    gateway.ALWAYS_TIMES_OUT,
]


@dataclass(frozen=True)
class Order:
    """What a customer sends. It travels to the worker as JSON."""

    order_id: str
    card: str
    amount: float

    def to_message(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def expected(self) -> Expectation:
        return EXPECTED[self.card]


def make_orders(count: int) -> list[Order]:
    """The first so many orders; always the same."""
    return [Order(f"A-{1001 + index}", _CARDS[index % len(_CARDS)], round(19.9 + 7.5 * (index % 9), 2)) for index in range(count)]
