"""A server that a test owns: it receives webhooks, and refuses what the test wants it to."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with what it was given for a payload's first requests, then with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[int, list[int]] = {}
        self.requests: list[tuple[dict[str, str], bytes, int]] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"

    @property
    def taken(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body, status in self.requests if status == 204]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that serves inside the ``with`` block, on a thread of its own."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            payload = json.loads(body)["payload"]
            answers = self.server.answers.get(payload) if isinstance(payload, int) else None
            status = answers.pop(0) if answers else 204
            self.server.requests.append((dict(self.headers.items()), body, status))
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass
