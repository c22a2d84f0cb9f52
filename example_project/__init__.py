"""A shop paid for by credit card: a Celery app whose steps publish domain events. Run it with ``python -m example_project``."""
