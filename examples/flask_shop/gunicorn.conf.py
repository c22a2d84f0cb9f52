"""gunicorn's settings, which it reads from the folder that it is started in."""

import os

workers = 2
preload_app = True


def when_ready(server):
    """The main process, before it forks: what this starts stays there, and each child has its own."""
    from shop import Opened, events, opened

    events.publish(opened, Opened(process=os.getpid()))


def worker_exit(server, worker):
    """Wait until all that this child accepted is committed."""
    from shop import events

    events.close()


def on_exit(server):
    """The same, in the main process."""
    from shop import events

    events.close()
