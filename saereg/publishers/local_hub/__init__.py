"""A hub on this machine that speaks the Hugging Face Hub's protocol to its real clients: to rehearse on, and to test.

Everything is in one folder and survives a restart. It is no place for secrets: every token that starts with `hf_` may
write everywhere (one with `read` in it may not, one with `propose` in it only to pull requests), large files are taken
without any, and nothing is encrypted. There are no gates, no scans, no search, nothing is deleted for good. `store`
holds, `transport` speaks HTTP, `answers` answers.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from saereg.publishers.local_hub.answers import Handler
from saereg.publishers.local_hub.store import Store
from saereg.publishers.local_hub.transport import Fault, Request, Server, Switches

__all__ = ["Fault", "Request", "Server", "Switches", "local_hub", "open_hub"]


def open_hub(folder: Path, host: str, port: int, switches: Switches, faults: Sequence[Fault] = ()) -> Server:
    """Return a hub that has its folder and its port, and does not serve yet."""
    store = Store(folder)
    try:
        return Server(store, (host, port), Handler, switches, faults)
    except OSError:
        store.lock.close()
        raise


@contextmanager
def local_hub(folder: Path, *, faults: Sequence[Fault] = (), **switches: bool | int) -> Iterator[Server]:
    """Serve a folder on a free port; `switches` are the fields of `Switches`, `server.faults` may change meanwhile."""
    server = open_hub(folder, "127.0.0.1", 0, Switches(**switches), faults)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.stop()
