"""HTTP: requests in, answers out, rights, faults and the list of requests."""

import http.server
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin
from urllib.parse import parse_qsl, unquote, urlsplit

from saereg.publishers.local_hub.store import BLOCK, Cas, Refusal, Repo, Store

MESSAGES = {
    400: "LFS pointer pointed to a file that does not exist",
    412: "The branch was updated since you opened this page. Please refresh and try again.",
}

PROPOSE = "You are not allowed to write here: pass `create_pr=1` as a query parameter to create a Pull Request"


ME = "local"
"""The user of most tokens."""


@dataclass
class Fault:
    """What goes wrong in the next `count` requests (-1: in all) of a route, a word of `ROUTES` (empty: of any).

    First `seconds` go by. Then `status` is answered, or with `drop` the connection is cut: `before` anything is done,
    in the middle of the body, or `after` all of it. Status 0 answers as asked. `stale` reads a branch as it was one
    commit ago; `ignore` says that files with that in their names are ignored. `path` is part of the
    request's path, method and user agent, as in `/api/models/org/name/refs GET saereg/1.0`.
    """

    route: str
    when: str = "before"
    status: int = 504
    count: int = 1
    seconds: float = 0.0
    path: str = ""
    drop: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    stale: bool = False
    ignore: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether every field is of its type; one from outside may not be."""
        types = {field.name: get_origin(field.type) or field.type for field in fields(self)} | {"seconds": int | float}
        return all(isinstance(getattr(self, name), kind) for name, kind in types.items())  # type: ignore[arg-type]


@dataclass
class Request:
    """One request; `received` and `sent` are the bytes of the bodies."""

    method: str
    path: str
    route: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0


@dataclass(frozen=True)
class Switches:
    """What a hub can do; entries of a page; bytes above which a file is sent in parts."""

    xet: bool = True
    pull_requests: bool = True
    lock: bool = True
    tags: bool = True
    page: int = 1000
    multipart_over: int = 20_000_000
    allow_faults: bool = False


@dataclass
class Reply:
    """An answer: a value as JSON, or a file and its size, of which a range may be asked for."""

    value: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    size: int = 0


class Transport(http.server.BaseHTTPRequestHandler):
    """One connection; what `_answer` sets belongs to its present request."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    routes: tuple[tuple[str, str, str, str, Callable[[Any], Reply]], ...] = ()
    server: "Server"
    repo: Repo
    asked: Request
    _left: int

    def log_message(self, *_: object) -> None:
        """Say nothing: requests are listed."""

    def handle(self) -> None:
        """Remember the connection, to cut it when the hub stops."""
        self.server.connections.add(self.connection)
        with suppress(ConnectionError):
            super().handle()
        self.server.connections.discard(self.connection)

    def blocks(self) -> Iterator[bytes]:
        """Yield what is left of the body."""
        while self._left:
            if not (block := self.rfile.read(min(self._left, BLOCK))):
                raise ConnectionError("the client went away")
            self._left, self.asked.received = self._left - len(block), self.asked.received + len(block)
            yield block

    def _answer(self) -> None:
        url, self._left = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
        self.place, self.query, self.fault = url.path, dict(parse_qsl(url.query)), Fault("", status=0)
        self.base, self.asked = f"http://{self.headers['Host']}", Request(self.command, unquote(url.path))
        self.server.requests.append(self.asked)
        try:
            if self.headers.get("Transfer-Encoding"):
                self.close_connection = True
                raise Refusal(411, "Send the body with its Content-Length")
            reply = self._routed()
        except Refusal as no:
            status, message, *code = no.args
            said = {"X-Error-Message": message} | ({"X-Error-Code": code[0]} if code else {})
            reply = Reply({"error": message}, status, said | self.fault.headers)
        except (AttributeError, KeyError, TypeError, ValueError) as wrong:
            reply = Reply({"error": f"malformed request: {wrong!r}"}, 400)
        except OSError as broken:
            if isinstance(broken, ConnectionError):
                raise
            reply = Reply({"error": f"the folder of this hub: {broken}"}, 500)
        for _ in self.blocks():  # so that the next request of this connection starts where it starts
            pass
        self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _routed(self) -> Reply:
        for word, method, pattern, right, function in self.routes:
            found = re.fullmatch(pattern, self.place)
            if found and method == self.command.replace("HEAD", "GET"):
                self.asked.route, self.words = word, [unquote(group or "") for group in found.groups()]
                what = f"{self.asked.path} {self.command} {self.headers.get('User-Agent')}"
                self.fault = self.server.fault(word, what) or self.fault
                self._fail("before")
                self._admit(right)
                reply = function(self)
                self._fail("after")
                return reply
        raise Refusal(404, f"This hub has no {self.command} {self.place}")

    def _fail(self, when: str) -> None:
        fault = self.fault
        time.sleep(fault.seconds if fault.when == when else 0)
        if fault.when == when and fault.drop:
            next(self.blocks(), b"")
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionError("dropped on purpose")
        if fault.when == when and fault.status and not fault.stale and not fault.ignore:
            raise Refusal(fault.status, fault.message or MESSAGES.get(fault.status, "Out of order on purpose"))

    @property
    def me(self) -> str:
        """Whose token it is: `hf_NAME.…` is one of NAME's, any other one of the user of this hub."""
        name, mark, _ = self.headers.get("Authorization", "").partition("hf_")[2].partition(".")
        return name if mark and name else ME

    def _admit(self, right: str) -> None:
        """Look for the repository and at the token: all but "read" need one, and "read" where it is private.

        One that may only propose may "propose", and "write" to a pull request.
        """
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and not token.startswith("hf_"):
            raise Refusal(401, "Invalid credentials in Authorization header")
        if right in ("read", "write", "propose"):
            self.words[0] = self.words[0] or "models"
            found = self.server.store.repo("/".join(self.words[:2]))
            if found is None or (found.state["private"] and not token):
                raise Refusal(404 if token else 401, "Repository not found", "RepoNotFound")
            self.repo = found
        if right in ("user", "write", "propose") and not token:
            raise Refusal(401, "Invalid username or password.")
        if right in ("write", "propose") and "read" in token:
            raise Refusal(403, "You have read access but not the required permissions for this operation")
        ref = "".join(self.words[2:3])
        if right == "write" and "propose" in token and "create_pr" not in self.query and not ref.startswith("refs/pr/"):
            raise Refusal(403, PROPOSE)

    def _send(self, reply: Reply) -> None:
        content = b"" if reply.file else json.dumps(reply.value).encode()
        begin, end = 0, reply.size if reply.file else len(content)
        if reply.file and (wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))):
            begin, end, size = int(wanted[1]), min(end, int(wanted[2] or end) + 1), end
            begin, end, reply.status = (begin, end, 206) if begin < end else (0, 0, 416)
            reply.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}" if end else f"bytes */{size}"
        self.asked.status, self.asked.sent = reply.status, end - begin if self.command != "HEAD" else 0
        self.send_response(reply.status)
        kind = "application/octet-stream" if reply.file else "application/json"
        own = {"Content-Type": kind, "Content-Length": str(end - begin), "X-Request-Id": uuid.uuid4().hex}
        for name, value in (own | reply.headers).items():
            self.send_header(name, value.encode("ascii", "replace").decode().replace("\n", " "))
        self.end_headers()
        if self.asked.sent and reply.file:
            with reply.file.open("rb") as file:
                self.connection.sendfile(file, begin, end - begin)
        elif self.asked.sent:
            self.wfile.write(content)
        self.server.log(self.asked)


class Server(http.server.ThreadingHTTPServer):
    """A hub; `requests` lists what was asked, `faults` what is to go wrong, `log` is called after every answer."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(
        self,
        store: Store,
        address: tuple[str, int],
        handler: type[Transport],
        switches: Switches,
        faults: Sequence[Fault],
    ) -> None:
        super().__init__(address, handler)
        self.store, self.switches, self.faults, self._picking = store, switches, list(faults), threading.Lock()
        self.requests, self.connections = list[Request](), set[socket.socket]()
        self.log: Callable[[Request], None] = lambda request: None
        self.cas = Cas(store.folder / "xet") if switches.xet else None
        self.url = f"http://{address[0]}:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""

    def fault(self, route: str, path: str) -> Fault | None:
        """Return what goes wrong in a request, and count it."""
        with self._picking:
            for fault in self.faults if route != "hub" else ():
                if fault.count and fault.route in ("", route) and fault.path in path:
                    fault.count -= fault.count > 0
                    return fault
        return None

    def stop(self) -> None:
        """Cut the connections and let the folder go."""
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.store.lock.close()
