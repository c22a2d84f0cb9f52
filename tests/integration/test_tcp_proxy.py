"""The proxy that other tests break connections with does what it says."""

from __future__ import annotations

import socket
import socketserver
import threading

import pytest
from tcp_proxy import TcpProxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1000):
            self.request.sendall(data)


@pytest.fixture
def proxy():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with TcpProxy(*server.server_address) as proxy:
            yield proxy
        server.shutdown()
        thread.join()


@pytest.fixture
def connect(proxy):
    clients = []

    def connect():
        clients.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def echo(client, text=b"hello"):
    client.sendall(text)
    return client.recv(1000)


def is_lost(client):
    try:
        return client.recv(1000) == b""
    except ConnectionError:
        return True


def test_bytes_pass(connect):
    assert echo(connect()) == b"hello"


def test_cut_ends_open_connections_and_new_ones_are_served(proxy, connect):
    first = connect()
    assert echo(first) == b"hello"

    proxy.cut()

    assert is_lost(first)
    assert echo(connect()) == b"hello"


def test_refuse_lets_open_connections_go_on(proxy, connect):
    first = connect()
    assert echo(first) == b"hello"

    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        connect()
    assert echo(first) == b"hello"


def test_restore_serves_the_same_port_again(proxy, connect):
    proxy.refuse()
    proxy.cut()
    proxy.restore()

    assert echo(connect()) == b"hello"


def test_freeze_holds_bytes_back_until_they_are_restored(proxy, connect):
    client = connect()
    assert echo(client) == b"hello"

    proxy.freeze()
    client.sendall(b"late")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1000)

    client.settimeout(30)
    proxy.restore()
    assert client.recv(1000) == b"late"


def test_a_frozen_connection_can_be_cut(proxy, connect):
    client = connect()
    assert echo(client) == b"hello"

    proxy.freeze()
    client.sendall(b"never")
    proxy.cut()

    assert is_lost(client)


def test_a_url_is_turned_to_the_proxy(proxy):
    assert proxy.before("amqp://guest:guest@127.0.0.1:5672//") == f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
    assert proxy.before("redis://127.0.0.1:6379/15") == f"redis://127.0.0.1:{proxy.port}/15"
