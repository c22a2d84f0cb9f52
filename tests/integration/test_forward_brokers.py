"""Forwarding to real RabbitMQ and Redis: nothing is lost, the order stays, whatever is stopped or killed in between."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from consuming import Running, event, rows, send
from forwarding import BrokerQueue, finished, firsts, start_forwarder
from kombu import Connection, Exchange, Queue
from queues import messages
from services import RABBITMQ, REDIS, path_of, url_of
from tcp_proxy import TcpProxy
from worker_process import wait_until

from celery_tasker_events.consumer.forwarder import Forwarder
from celery_tasker_events.consumer.targets import TargetOptions

WORKFLOWS = 20
EACH = 15
EXPECTED = {f"w{workflow}": list(range(EACH)) for workflow in range(WORKFLOWS)}


def send_all(dsn: str, numbers: Sequence[int] = range(EACH)) -> None:
    send(dsn, [event(number, f"w{workflow}") for number in numbers for workflow in range(WORKFLOWS)])


@pytest.fixture(params=[RABBITMQ, REDIS], ids=lambda service: service.name)
def queue(request: pytest.FixtureRequest) -> Iterator[BrokerQueue]:
    queue = BrokerQueue(url_of(request.param))
    yield queue
    queue.delete()


@pytest.fixture
def rabbit() -> Iterator[BrokerQueue]:
    queue = BrokerQueue(url_of(RABBITMQ))
    yield queue
    queue.delete()


@pytest.fixture
def start(dsn: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(url: str, *arguments: str) -> subprocess.Popen[str]:
        started.append(start_forwarder(dsn, url, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_every_event_arrives_once_and_in_order(dsn, queue, start):
    send_all(dsn)

    code, _, errors = finished(start(queue.url, *queue.arguments, "--until-empty"))

    assert (code, errors) == (0, f"{WORKFLOWS * EACH} forwarded\n")
    assert messages(dsn, "payments") == []
    assert len(queue.receive()) == WORKFLOWS * EACH
    assert firsts(queue.bodies) == EXPECTED


def test_the_message_says_what_it_is_outside_of_its_body(dsn, rabbit, start):
    sent = event(1, "w", name="payment.processed")
    send(dsn, [sent], envelope="cloudevents")

    assert finished(start(rabbit.url, *rabbit.arguments, "--until-empty"))[0] == 0

    rabbit.receive()
    (told,) = rabbit.properties
    assert told["message_id"] == sent.event_id
    assert told["type"] == "payment.processed"
    assert told["correlation_id"] == "w"
    assert told["timestamp"] == 1767261600
    assert told["delivery_mode"] == 2
    assert told["type_of"] == "application/cloudevents+json"
    assert told["headers"]["namespace"] == "payments"
    assert told["headers"]["idempotency_key"] == "w-1"


def test_several_forwarders_share_a_queue_and_keep_the_order(dsn, queue, start):
    send_all(dsn)

    processes = [start(queue.url, *queue.arguments, "--until-empty", "--concurrency", "2") for _ in range(3)]

    assert [finished(process)[0] for process in processes] == [0, 0, 0]
    assert messages(dsn, "payments") == []
    assert len(queue.receive()) == WORKFLOWS * EACH
    assert firsts(queue.bodies) == EXPECTED


def test_a_forwarder_that_is_killed_again_and_again_loses_nothing(dsn, queue, start):
    arguments = [*queue.arguments, "--visibility-timeout", "3", "--batch-size", "20"]
    numbers = range(EACH)
    for part in (numbers[:3], numbers[3:6], numbers[6:9], numbers[9:]):
        # There is something to forward each time, however quick the one before was.
        send_all(dsn, part)
        before = len(messages(dsn, "payments"))
        process = start(queue.url, *arguments)
        wait_until(lambda before=before: len(messages(dsn, "payments")) < before, "it forwards", 60)
        process.send_signal(signal.SIGKILL)
        process.wait()

    code, _, errors = finished_when_empty(dsn, start(queue.url, *arguments))

    assert code == 0, errors
    received = queue.receive()
    assert firsts(received) == EXPECTED
    # What was published and not deleted yet when it was killed: no more than a batch each time.
    assert WORKFLOWS * EACH <= len(received) <= WORKFLOWS * EACH + 4 * 20


def finished_when_empty(dsn: str, process: subprocess.Popen[str]) -> tuple[int, str, str]:
    wait_until(lambda: messages(dsn, "payments") == [], "all is forwarded", 120)
    process.send_signal(signal.SIGTERM)
    return finished(process)


def test_a_broker_that_is_gone_in_the_middle_is_waited_for(dsn, queue, caplog):
    host, port = Connection(queue.url).as_uri().rpartition("@")[2].removeprefix("redis://").split("/")[0].split(":")
    with TcpProxy(host, int(port)) as proxy:
        options = TargetOptions(exchange=queue.name, queue=queue.name, timeout=10)
        forwarder = Forwarder(dsn, "payments", to=proxy.before(queue.url), options=options, batch_size=20)
        with Running(forwarder):
            send(dsn, [event(-1, "before")])
            wait_until(lambda: forwarder.statistics()["forwarded"] == 1, "the first has arrived")
            proxy.refuse()
            proxy.cut()
            send_all(dsn)
            wait_until(lambda: "Forwarding waits for" in caplog.text, "the outage is told")
            assert len(messages(dsn, "payments")) == WORKFLOWS * EACH
            proxy.restore()
            wait_until(lambda: messages(dsn, "payments") == [], "all is forwarded", 120)
            # Once more, with messages on their way.
            send(dsn, [event(number, "after") for number in range(3)])
            proxy.cut()
            wait_until(lambda: messages(dsn, "payments") == [], "all is forwarded", 120)

    received = queue.receive()
    assert firsts(received) == {"before": [-1], **EXPECTED, "after": [0, 1, 2]}
    assert len(received) <= WORKFLOWS * EACH + 4 + 2 * 20
    told = [record.getMessage() for record in caplog.records if "Forwarding" in record.getMessage()]
    assert len(told) >= 2
    assert [("waits" in line) for line in told] == [number % 2 == 0 for number in range(len(told))]
    assert "guest:guest" not in caplog.text
    assert forwarder.statistics()["dead_lettered"] == 0


def test_what_no_queue_is_bound_for_stays_until_one_is(dsn, rabbit, start):
    send(dsn, [event(1)])
    process = start(rabbit.url, "--exchange", rabbit.name)
    wait_until(lambda: rows(dsn, "read_ct") >= [2], "it was tried again", 60)

    with Connection(rabbit.url) as connection:
        Queue(rabbit.name, Exchange(rabbit.name, "topic"), "payment.*")(connection.channel()).declare()

    code, _, errors = finished_when_empty(dsn, process)
    assert code == 0, errors
    assert "no queue is bound" in errors
    assert [body["payload"] for body in rabbit.receive()] == [1]


def test_what_no_queue_is_bound_for_is_dropped_if_that_is_wanted(dsn, rabbit, start):
    send(dsn, [event(1)])

    code, _, errors = finished(start(rabbit.url, "--exchange", rabbit.name, "--unroutable", "drop", "--until-empty"))

    assert (code, errors) == (0, "1 forwarded\n")
    assert messages(dsn, "payments") == []


def test_a_message_that_the_broker_refuses_for_good_is_a_dead_letter_and_the_others_go_on(dsn, rabbit, start):
    send(dsn, [event(1, "a"), event(2, "b", name="a." + "b" * 300), event(3, "c")])

    assert finished(start(rabbit.url, *rabbit.arguments, "--until-empty"))[0] == 0

    assert sorted(body["payload"] for body in rabbit.receive()) == [1, 3]
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["failed_stage"] == "target"


def test_a_password_that_is_refused_ends_the_command_and_is_not_shown(dsn, start):
    url = url_of(RABBITMQ).replace("guest:guest", "guest:hunter2")
    if "hunter2" not in url:
        pytest.skip("the server's URL names another user")

    code, _, errors = finished(start(url))

    assert code == 1
    assert "AccessRefused" in errors
    assert "hunter2" not in errors


class OwnRedis:
    """A server of the test's own, which writes what it is told to disk before it answers."""

    def __init__(self, folder: Path) -> None:
        self._program = path_of("redis-server", "redis-server")
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self._port), "--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen([self._program, "--save", "", *options], stdout=subprocess.DEVNULL)
        wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def test_redis_that_is_killed_and_comes_back(dsn, start, tmp_path):
    redis = OwnRedis(tmp_path)
    queue = BrokerQueue(redis.url)
    redis.start()
    try:
        send_all(dsn)
        process = start(queue.url, *queue.arguments, "--batch-size", "20")
        wait_until(lambda: len(messages(dsn, "payments")) < WORKFLOWS * EACH, "it forwards", 60)
        redis.kill()
        redis.start()
        code, _, errors = finished_when_empty(dsn, process)
        assert code == 0, errors
        received = queue.receive()
    finally:
        redis.kill()

    assert firsts(received) == EXPECTED
    assert len(received) <= WORKFLOWS * EACH + 20
