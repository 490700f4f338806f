"""A small server that speaks as much of the Hub's protocol as reading a repository takes, and remembers requests."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "tiny/release"

LARGE_SUFFIX = ".safetensors"
"""Files that the server keeps as LFS objects, by their sha256."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one repository at one commit."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        if self.server.silent_on and self.server.silent_on in path:
            time.sleep(120)  # longer than any client may wait
            return
        status, headers, body = self._find(path)
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        api, resolve = f"/api/models/{REPO}", f"/{REPO}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{SHA}"):
            return self._json({"id": REPO, "sha": SHA, "private": False, "tags": [], "downloads": 0, "siblings": []})
        if path.startswith(f"{api}/revision/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path == f"{api}/tree/{SHA}":
            return self._json([self._entry(file) for file in sorted(self.server.root.rglob("*")) if file.is_file()])
        if path.startswith(resolve):
            revision, _, name = path.removeprefix(resolve).partition("/")
            file = self.server.root / name
            if revision in ("main", SHA) and file.is_file():
                return self._file(file)
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""

    def _json(self, value: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _entry(self, file: Path) -> dict[str, object]:
        content = file.read_bytes()
        entry = {"type": "file", "path": file.relative_to(self.server.root).as_posix(), "size": len(content)}
        if file.suffix == LARGE_SUFFIX:
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry | {"oid": _git_sha1(content)}

    def _file(self, file: Path) -> tuple[int, dict[str, str], bytes]:
        content = file.read_bytes()
        large = file.suffix == LARGE_SUFFIX
        etag = hashlib.sha256(content).hexdigest() if large else _git_sha1(content)
        headers = {"X-Repo-Commit": SHA, "ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))} if large else {}
        return 200, headers | linked, content


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """The server; `requests` holds (method, path) of everything asked, `silent_on` a part of paths never answered."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path, silent_on: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.silent_on = root, silent_on
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> set[str]:
        """Return the paths of the files whose content was sent."""
        start = f"/{REPO}/resolve/{SHA}/"
        return {
            path.removeprefix(start) for method, path in self.requests if method == "GET" and path.startswith(start)
        }


@contextmanager
def hub(root: Path, silent_on: str = "") -> Iterator[Server]:
    """Serve a folder as the repository `tiny/release`."""
    server = Server(root, silent_on)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
