"""One ``console`` process, as a shell starts it, and requests to it as programs make them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from program import PROGRAM
from worker_process import wait_until


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


class ConsoleProcess:
    """Serves on a free port.

    Args:
        app: What ``celery -A`` is given, a module in ``cwd``; None: the program without an app.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        app: str | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output, self.errors = folder / "console-output", folder / "console-errors"
        program = PROGRAM if app is None else [sys.executable, "-m", "celery", "-A", app, "domain-events"]
        command = [*program, "console", "--port", "0", *arguments]
        # Unlike one that a script starts in the background, it heeds Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **(environment or {})}, stdout=output, stderr=errors
            )
        signal.signal(signal.SIGINT, before)
        self.cookie = ""

    def start(self) -> ConsoleProcess:
        wait_until(lambda: "http://" in self.output.read_text() or self.process.poll() is not None, "the console tells where")
        assert self.process.poll() is None, self.errors.read_text()
        # It prints once it listens, and answers when it serves.
        self.cookie = self.get("/" + urlsplit(self.url).query.join(("?", ""))).headers.get("set-cookie", "").partition(";")[0]
        return self

    @property
    def url(self) -> str:
        """What is printed, with the token."""
        found = re.search(r"http://\S+", self.output.read_text())
        assert found is not None
        return found[0]

    @property
    def base(self) -> str:
        return f"http://{urlsplit(self.url).netloc}"

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers)

    def post(self, path: str, fields: object, **headers: str) -> Answer:
        given = {"Origin": self.base, "Content-Type": "application/x-www-form-urlencoded", **headers}
        return self.ask("POST", path, given, urlencode(fields, doseq=True))

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Cookie": self.cookie, **headers})
            response = connection.getresponse()
            text = response.read().decode()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        where = urlsplit(self.url)
        return http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)

    def csrf_token(self, path: str) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)
