"""A small server that speaks as much of the Hub's protocol as reading a repository takes, and remembers requests."""

import contextlib
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "tiny/release"

LARGE_SUFFIX = ".safetensors"
"""Files that the server keeps as LFS objects, by their sha256."""

BLOCK = 64 * 1024


@dataclass
class Habits:
    """What this server does otherwise than it should, or than others do.

    Attributes:
        silent_on: part of paths that are never answered.
        stalls_on: part of paths of which half the body is sent, and no more.
        busy: part of a path → how many requests for it are answered 429 before one is answered as asked.
        retry_after: seconds that such an answer asks to wait.
        broken: part of a path → how many requests for it are answered 503.
        deaf: whether ranges are ignored, and whole files sent.
        elsewhere: whether the bytes of large files are on another host, to which a request is sent on.
        page: most entries of the tree in one answer.
        submodules: folders of the tree that are repositories of their own.
        lost: files that are in the tree and whose bytes are gone.
        html: whether every answer is the page of a proxy.
        drops: part of a path → how many answers for it end after half of the body.
        altered: part of paths of which other bytes are sent than the tree says.
        missing: files that are not in the tree.
    """

    silent_on: str = ""
    stalls_on: str = ""
    busy: Counter[str] = field(default_factory=Counter)
    retry_after: int = 1
    broken: Counter[str] = field(default_factory=Counter)
    deaf: bool = False
    elsewhere: bool = False
    page: int = 1000
    submodules: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    html: bool = False
    drops: Counter[str] = field(default_factory=Counter)
    altered: str = ""
    missing: tuple[str, ...] = ()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one repository at one commit."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path, habits = unquote(urlsplit(self.path).path), self.server.habits
        self.server.requests.append((self.command, path))
        self.server.tokens.append(self.headers.get("Authorization", ""))
        if habits.silent_on and habits.silent_on in path:
            time.sleep(120)  # longer than any client may wait
            return
        status, headers, body = self._refused(path) or self._found(path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if status == 200 and wanted and not habits.deaf:
            begin, end = int(wanted[1]), min(int(wanted[2]) + 1, len(body))
            headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{len(body)}"}
            status, body = 206, body[begin:end]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self._send(path, body)

    def _send(self, path: str, body: bytes) -> None:
        stalls = self.server.habits.stalls_on
        if stalls and stalls in path:
            self.wfile.write(body[: len(body) // 2])
            time.sleep(120)
            return
        for part, left in self.server.habits.drops.items():
            if part in path and left > 0:
                self.server.habits.drops[part] -= 1
                self.close_connection = True
                body = body[: len(body) // 2]
        for begin in range(0, len(body), BLOCK):
            self.server.sent[path] += len(body[begin : begin + BLOCK])
            self.wfile.write(body[begin : begin + BLOCK])

    def _refused(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        habits = self.server.habits
        if habits.html:
            return 200, {"Content-Type": "text/html"}, b"<html>Please log in to the network</html>"
        for table, status in ((habits.busy, 429), (habits.broken, 503)):
            for part, left in table.items():
                if part in path and left > 0:
                    table[part] -= 1
                    return status, {"Retry-After": str(habits.retry_after)} if status == 429 else {}, b""
        return None

    def _found(self, path: str) -> tuple[int, dict[str, str], bytes]:
        api, resolve = f"/api/models/{REPO}", f"/{REPO}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/refs/pr/1", f"{api}/revision/{SHA}"):
            return self._json({"id": REPO, "sha": SHA, "private": False, "tags": [], "downloads": 0, "siblings": []})
        if path.startswith(f"{api}/revision/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path == f"{api}/tree/{SHA}":
            return self._tree()
        if path.startswith("/elsewhere/"):
            return self._file(self.server.root / path.removeprefix("/elsewhere/"))
        if path.startswith(resolve):
            revision, _, name = path.removeprefix(resolve).partition("/")
            file = self.server.root / name
            if revision in ("main", SHA) and file.is_file() and name not in self.server.habits.lost:
                return self._elsewhere(file) if self.server.habits.elsewhere else self._file(file)
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""

    def _json(self, value: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _tree(self) -> tuple[int, dict[str, str], bytes]:
        """Return one page of the tree, and where the next one is."""
        begin = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        end = begin + self.server.habits.page
        hidden = self.server.habits.missing
        files = [path for path in self.server.root.rglob("*") if path.is_file()]
        files = [path for path in files if path.relative_to(self.server.root).as_posix() not in hidden]
        folders = {parent for path in files for parent in path.relative_to(self.server.root).parents} - {Path()}
        entries = [self._entry(path) for path in sorted(files)]
        entries += [{"type": "directory", "path": path.as_posix(), "oid": SHA, "size": 0} for path in sorted(folders)]
        entries += [{"type": "directory", "path": name, "oid": SHA} for name in self.server.habits.submodules]
        status, headers, body = self._json(entries[begin:end])
        if end < len(entries):
            here = f"{self.server.url}{urlsplit(self.path).path}?recursive=true&cursor={end}"
            headers |= {"Link": f'<{here}>; rel="next"'}
        return status, headers, body

    def _entry(self, path: Path) -> dict[str, object]:
        name = path.relative_to(self.server.root).as_posix()
        content = path.read_bytes()
        entry = {"type": "file", "path": name, "size": len(content)}
        if path.suffix == LARGE_SUFFIX:
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry | {"oid": _git_sha1(content)}

    def _file(self, file: Path) -> tuple[int, dict[str, str], bytes]:
        content = file.read_bytes()
        if self.server.habits.altered and self.server.habits.altered in file.as_posix():
            content = content[:-1] + bytes([content[-1] ^ 1])
        return 200, self._described(file, content) | {"Content-Type": "application/octet-stream"}, content

    def _elsewhere(self, file: Path) -> tuple[int, dict[str, str], bytes]:
        if file.suffix != LARGE_SUFFIX:
            return self._file(file)
        other = self.server.url.replace("127.0.0.1", "localhost")
        where = f"{other}/elsewhere/{file.relative_to(self.server.root).as_posix()}"
        return 302, self._described(file, file.read_bytes()) | {"Location": where}, b""

    def _described(self, file: Path, content: bytes) -> dict[str, str]:
        large = file.suffix == LARGE_SUFFIX
        etag = hashlib.sha256(content).hexdigest() if large else _git_sha1(content)
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))} if large else {}
        return {"X-Repo-Commit": SHA, "ETag": f'"{etag}"'} | linked


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """The server; `requests` holds (method, path) of everything asked, `sent` how many bytes of bodies were taken."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path, habits: Habits) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.habits = root, habits
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.sent: Counter[str] = Counter()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> set[str]:
        """Return the paths of the files whose content was sent."""
        return set(self.asked())

    def asked(self) -> Counter[str]:
        """Return how often the content of each file was asked for."""
        start = f"/{REPO}/resolve/{SHA}/"
        return Counter(
            path.removeprefix(start) for method, path in self.requests if method == "GET" and path.startswith(start)
        )


@contextmanager
def hub(root: Path, silent_on: str = "", **habits: object) -> Iterator[Server]:
    """Serve a folder as the repository `tiny/release`."""
    server = Server(root, Habits(silent_on=silent_on, **habits))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        with contextlib.suppress(OSError):
            server.server_close()


@dataclass(frozen=True)
class Client:
    """A process with a Hub cache of its own: the client reads its settings when it is imported."""

    home: Path

    def _run(self, words: list[str], endpoint: str, settings: dict[str, str]) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(self.home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return subprocess.run(
            [sys.executable, *words], env=kept | own | settings, capture_output=True, text=True, timeout=60, check=False
        )

    def saereg(self, endpoint: str, *words: str, **settings: str) -> subprocess.CompletedProcess:
        """Run the command line."""
        return self._run(["-m", "saereg", *words], endpoint, settings)

    def python(self, endpoint: str, code: str, **settings: str) -> subprocess.CompletedProcess:
        """Run some Python."""
        return self._run(["-c", code], endpoint, settings)
