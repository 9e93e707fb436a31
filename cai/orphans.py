"""A worker process ends with the one that started it."""

import os
import threading
from multiprocessing import connection, parent_process


def die_with_parent() -> None:
    """From now on, end this process as soon as its parent is gone.

    A worker whose parent was killed would go on writing beside the run that takes its place.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
