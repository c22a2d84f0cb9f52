"""The run: start what is needed, pay some orders, stop, show what was published, and check that all of it is right."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console

from example_project import services
from example_project.consumer import consume
from example_project.home import Home, open_home
from example_project.interruption import Interrupted, Interruption
from example_project.orders import make_orders

#: Seconds that may pass without any payment ending.
PATIENCE = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shop once; return 0 if all was as it must be, 1 if not, 2 if something that is needed could not be had."""
    options = _options(arguments)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    interruption = Interruption()
    interruption.watch()
    with open_home() as home:
        try:
            return _run(options, home, interruption, console, errors)
        except Interrupted as interrupted:
            errors.print(f"{interrupted.signal.name}: all that was started is stopped.")
            return interrupted.exit_code
        except services.WorkerError as error:
            _fail(errors, home, [str(error)])
            return 1
        except services.ServiceError as error:
            errors.print(f"Error: {error}", markup=False)
            return 2


def _run(options: argparse.Namespace, home: Home, interruption: Interruption, console: Console, errors: Console) -> int:
    with ExitStack() as started:
        if options.broker:
            services.check_broker(options.broker)
        if options.result_backend and not options.result_backend.startswith("rpc"):
            services.check_result_backend(options.result_backend)
        dsn = options.dsn
        if dsn is None:
            dsn = started.enter_context(services.embedded_postgres(home, interruption))
            console.print(f"Postgres: embedded, its data is in {home.postgres}", soft_wrap=True)
        os.environ.update(_environment(options, home, dsn))
        console.print(services.set_up_database(interruption))

        # Imported here: importing the app configures it, from the environment that was made just now.
        from example_project import audit, checkout, report

        started.callback(checkout.tidy_up)
        with services.worker(home) as worker:
            console.print(f"Worker: started, its log is {home.worker_log}", soft_wrap=True)
            payments = [checkout.pay(order) for order in make_orders(options.orders)]
            checkout.wait_for(payments, worker, interruption, PATIENCE)
            console.print("All orders have ended: stopping the worker, which publishes what it still has\n")
        seen = audit.Audit.of(payments, home.counts, consume(dsn, [payment.workflow_id for payment in payments]))
    report.show(seen, console)
    if differences := seen.differences():
        _fail(errors, home, differences)
    console.print(seen.summary(), soft_wrap=True)
    return 1 if differences else 0


def _fail(errors: Console, home: Home, reasons: Sequence[str]) -> None:
    if home.worker_log.exists():
        errors.print(f"The end of the worker's log, {home.worker_log}:")
        for line in home.worker_log.read_text(errors="replace").splitlines()[-30:]:
            errors.print(f"    {line}", markup=False)
    for reason in reasons:
        errors.print(f"Error: {reason}", markup=False, style="red")


def _environment(options: argparse.Namespace, home: Home, dsn: str) -> dict[str, str]:
    """What ``app.py`` is configured by, in this process and in those that it starts."""
    broker: str = options.broker or f"filesystem://{home.broker}"
    if options.result_backend:
        results = options.result_backend
    elif broker.startswith(("amqp", "pyamqp")):
        results = "rpc://"
    elif broker.startswith("redis"):
        results = broker
    else:
        results = f"file://{home.results}"
    return {
        "SHOP_DSN": dsn,
        "SHOP_BROKER_URL": broker,
        "SHOP_RESULT_BACKEND": results,
        "SHOP_COUNTS_FILE": str(home.counts),
        "SHOP_SPOOL_DIR": str(home.spool),
        # A queue of this run's own: nobody else's worker takes its tasks.
        "SHOP_QUEUE": f"shop-{uuid.uuid4().hex[:12]}",
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m example_project",
        description="A shop paid for by credit card, whose payments publish domain events. Needs no servers unless told of some.",
    )
    parser.add_argument("--dsn", type=_dsn, help="Postgres to use instead of an embedded one: postgresql://user@host/database")
    parser.add_argument("--broker", metavar="URL", help="amqp://… or redis://… instead of a folder")
    parser.add_argument(
        "--result-backend", metavar="URL", help="Celery's; by default rpc:// for amqp, the broker for redis, else a folder"
    )
    parser.add_argument("--orders", type=_count, default=8, metavar="N", help="how many to pay (8)")
    return parser.parse_args(arguments)


def _dsn(text: str) -> str:
    try:
        conninfo_to_dict(text)
    except ProgrammingError:
        raise argparse.ArgumentTypeError("not a connection string that libpq understands") from None
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
