"""The examples for Django, FastAPI and Flask, run as their pages say: real servers, and a worker for Django."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pages import blocks
from psycopg.conninfo import conninfo_to_dict
from queues import messages
from rabbitmq_node import free_port
from web_server import serving
from worker_process import WorkerProcess, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"

#: What a test run says otherwise than the example: a broker in a folder, which no server is needed for.
TEST_SETTINGS = """
import os
from pathlib import Path
from celery_tasker_events.testing.folder_broker import folder_broker_settings
from shop.settings import *

broker = folder_broker_settings(Path(os.environ["FOLDER"]))
globals().update({f"CELERY_{key.upper()}": value for key, value in broker.items()})
"""


@pytest.mark.parametrize("framework", ["django", "fastapi", "flask"])
def test_a_page_shows_the_files_of_its_example_as_they_are(framework):
    shown = {name: block for name, block in blocks(f"how-to/{framework}.md").items() if name.endswith(".py")}

    folder = EXAMPLES / f"{framework}_shop"
    assert shown == {name: f"# {name}\n{(folder / name).read_text()}" for name in shown}
    assert shown


def environment_of(dsn, **others):
    known = conninfo_to_dict(dsn)
    of_libpq = {"PGDATABASE": known["dbname"], "PGHOST": known["host"], "PGUSER": known["user"]}
    return {**of_libpq, "DATABASE_URL": dsn, **others}


def run(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def commands(framework, name):
    """The command lines of a page's block, to be run with this interpreter's programs."""
    for line in blocks(f"how-to/{framework}.md")[name].splitlines()[1:]:
        program, *arguments = shlex.split(line)
        yield [*([] if program == "python" else ["-m", program]), *arguments]


def set_up(framework, folder, environment):
    return [run(folder, environment, *command) for command in commands(framework, "setup.sh")]


def serve_command(framework, *options):
    return [sys.executable, *list(commands(framework, "serve.sh"))[-1], *options]


def names_and_payloads(dsn):
    return [(event["event_name"], event["payload"]) for event in messages(dsn, "shop")]


def test_django(dsn, tmp_path):
    folder = EXAMPLES / "django_shop"
    (tmp_path / "test_settings.py").write_text(TEST_SETTINGS)
    environment = environment_of(
        dsn,
        DJANGO_SETTINGS_MODULE="test_settings",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
        FOLDER=str(tmp_path / "broker"),
    )
    *_, checked = set_up("django", folder, environment)
    assert "0 errors, 0 warnings" in checked
    worker = WorkerProcess("shop", folder, tmp_path / "worker.log", environment, concurrency=1)
    port = free_port()
    command = serve_command("django", "--bind", f"127.0.0.1:{port}")
    try:
        worker.start(wait_ready=False)
        with serving(command, port, folder, environment, tmp_path / "web.log") as server:
            assert server.request("/orders", {"item": "book"}) == (201, {"order": 1})
            assert server.request("/orders", {"item": "unicorn"}) == (409, {"error": "sold out"})
            wait_until(lambda: len(messages(dsn, "shop")) == 2, "the worker ships the order", timeout=60)
            assert server.stop() == 0, server.log
        assert worker.stop() == 0
    finally:
        worker.kill()

    assert names_and_payloads(dsn) == [("order.placed", {"order": 1, "item": "book"}), ("order.shipped", {"order": 1})]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select item, shipped from orders_order").fetchall() == [("book", True)]


def place_orders(server, path, count):
    """Place so many orders side by side; return the event ids and the processes that answered."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: server.request(path, {"order": number, "item": "book"}), range(count)))
    assert {status for status, _ in answers} <= {201, 202}
    return [answer["event_id"] for _, answer in answers], {answer["process"] for _, answer in answers}


def place_orders_in_two_processes(server):
    accepted, processes = [], set()
    for _ in range(50):
        event_ids, answered = place_orders(server, "/orders", 20)
        accepted += event_ids
        processes |= answered
        if len(processes) == 2:
            return accepted, processes
    raise AssertionError(f"only {processes} answered")


def test_fastapi(dsn, tmp_path):
    folder, environment, port = EXAMPLES / "fastapi_shop", environment_of(dsn), free_port()
    set_up("fastapi", folder, environment)
    command = serve_command("fastapi", "--port", str(port))

    with serving(command, port, folder, environment, tmp_path / "web.log") as server:
        confirmed, _ = place_orders(server, "/orders/confirmed", 1)
        assert [event["event_id"] for event in messages(dsn, "shop")] == confirmed
        wait_until(lambda: server.request("/placed")[1] == {"book": 1}, "the subscriber heard of it in one of the processes")
        accepted, _ = place_orders_in_two_processes(server)
        assert server.stop() == 0, server.log

    assert sorted(event["event_id"] for event in messages(dsn, "shop")) == sorted(confirmed + accepted)


def test_flask(dsn, tmp_path):
    folder, environment, port = EXAMPLES / "flask_shop", environment_of(dsn), free_port()
    set_up("flask", folder, environment)
    command = serve_command("flask", "--bind", f"127.0.0.1:{port}")

    with serving(command, port, folder, environment, tmp_path / "web.log") as server:
        accepted, processes = place_orders_in_two_processes(server)
        assert server.stop() == 0, server.log

    events = messages(dsn, "shop")
    opened = [event["payload"]["process"] for event in events if event["event_name"] == "shop.opened"]
    assert opened == [server.process.pid]
    assert processes.isdisjoint(opened)
    assert sorted(e["event_id"] for e in events if e["event_name"] == "order.placed") == sorted(accepted)
