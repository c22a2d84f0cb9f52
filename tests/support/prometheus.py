"""A real Prometheus that scrapes one worker, where it is installed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services import path_of
from worker_process import wait_until

CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Asks a server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), self._opener.open(f"{self._url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query, as the HTTP API gives them."""
        parameters = urllib.parse.urlencode({"query": expression})
        with self._opener.open(f"{self._url}/api/v1/query?{parameters}", timeout=30) as answer:
            told = json.loads(answer.read())
        assert told["status"] == "success"
        return list(told["data"]["result"])


@contextlib.contextmanager
def scraping(address: str, folder: Path) -> Iterator[Prometheus]:
    """Run a server that scrapes that address each second; skips the test if there is none to run."""
    program = path_of("prometheus", "prometheus")
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(target=urllib.parse.urlsplit(address).netloc))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: prometheus.is_ready() or process.poll() is not None, "Prometheus is ready", 60)
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(60)
