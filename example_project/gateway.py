"""A simulated card gateway: what happens is decided by the card's number alone, so that every run tells the same story."""

from __future__ import annotations

APPROVED = "4242424242424242"
ALSO_APPROVED = "5555555555554444"
TIMES_OUT_TWICE = "4000000000000119"
ALWAYS_TIMES_OUT = "4000000000000259"
DECLINED = "4000000000000002"
MISTYPED = "4242424242424241"


class PaymentError(Exception):
    """Why a payment failed. ``error_code`` becomes the ``error_code`` of the published event."""

    error_code = "payment_error"


class InvalidCard(PaymentError):
    """The number is no card's number; asking the gateway would be a waste."""

    error_code = "invalid_card"


class CardDeclined(PaymentError):
    """The bank said no, and would say it again."""

    error_code = "card_declined"


class GatewayTimeout(PaymentError):
    """No answer came; the next attempt may get one."""

    error_code = "gateway_timeout"


def charge(card: str, order_id: str, attempt: int) -> str:
    """Charge a card and return the transaction's id.

    Args:
        attempt: 1 is the first.

    Raises:
        CardDeclined: if it is no use to try again.
        GatewayTimeout: if it may be.
    """
    if card == DECLINED:
        raise CardDeclined("the bank declined the card")
    if card == ALWAYS_TIMES_OUT or (card == TIMES_OUT_TWICE and attempt <= 2):
        raise GatewayTimeout("the gateway did not answer")
    return f"TXN-{order_id}-{attempt}"


def is_card_number(number: str) -> bool:
    """Whether the last digit is the check digit of the others (Luhn's algorithm)."""
    if not number.isdecimal() or len(number) < 12:
        return False
    doubled = [int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
