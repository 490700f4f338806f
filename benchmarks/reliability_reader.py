"""A reader of a hub that knows no client: the head of main, the tree of each commit, and whether it is one version.

    python benchmarks/reliability_reader.py URL VERSIONS.json     names of repositories on stdin, one per line

polls the repository named last until stdin ends, then prints what it saw as JSON.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from reliability_releases import Version, read_list

PAUSE = 0.05
"""Seconds between two looks at the head."""

EMPTY = {".gitattributes"}
"""What the first commit of a repository holds."""


class Reader:
    """Looks at one hub."""

    def __init__(self, url: str, versions: list[Version]) -> None:
        self.url, self.versions = url, versions
        self.trees: dict[str, dict[str, dict]] = {}

    def get(self, path: str) -> bytes:
        """Return the body of an answer."""
        asked = urllib.request.Request(self.url + path, headers={"Authorization": "Bearer hf_reader"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.read()

    def api(self, repo: str, rest: str = "") -> dict | list:
        """Return what the API says of a repository."""
        return json.loads(self.get(f"/api/models/{repo}{rest}"))

    def head(self, repo: str) -> str | None:
        """Return the commit of main; None where there is none, or no answer."""
        try:
            return self.api(repo, "/revision/main")["sha"]
        except (OSError, ValueError):
            return None

    def history(self, repo: str, revision: str = "main") -> list[str]:
        """Return the commits of a branch, the newest first."""
        found: list[str] = []
        while page := self.api(repo, f"/commits/{revision}?cursor={len(found)}"):
            found += [one["id"] for one in page]
            if len(page) < 50:
                break
        return found

    def tree(self, repo: str, commit: str) -> dict[str, dict]:
        """Return path → entry of the files of a commit."""
        if commit not in self.trees:
            found: list[dict] = []
            while page := self.api(repo, f"/tree/{commit}?recursive=true&cursor={len(found)}"):
                found += page
                if len(page) < 1000:
                    break
            self.trees[commit] = {one["path"]: one for one in found if one["type"] == "file"}
        return self.trees[commit]

    def tags(self, repo: str) -> dict[str, str]:
        """Return tag → commit."""
        return {one["name"]: one["targetCommit"] for one in self.api(repo, "/refs")["tags"]}

    def pull_requests(self, repo: str) -> list[dict]:
        """Return all pull requests."""
        found: list[dict] = []
        page = 0
        while some := self.api(repo, f"/discussions?p={page}&type=pull_request&status=all")["discussions"]:
            found, page = found + some, page + 1
            if len(some) < 10:
                break
        return found

    def version(self, repo: str, commit: str) -> tuple[str | None, str | None]:
        """Return (version, None) of a commit that is exactly one version, ("", None) of an empty one, (None, why)."""
        tree = self.tree(repo, commit)
        if set(tree) <= EMPTY:
            return "", None
        try:
            manifest = self.get(f"/{repo}/resolve/{commit}/manifest.json")
            index = json.loads(self.get(f"/{repo}/resolve/{commit}/index.json"))
            says = json.loads(manifest)["release"]["version"]
        except (urllib.error.HTTPError, ValueError, KeyError) as error:
            return None, f"manifest or index cannot be read: {error}"
        for path, size, sha256 in _indexed(index):
            if path not in tree or tree[path]["size"] != size or tree[path].get("lfs", {}).get("oid", sha256) != sha256:
                return None, f"{path} is not the file that the index names"
        wrong = [_differs(one, tree) for one in self.versions if one.version == says]
        return (says, None) if None in wrong else (None, f"{says} is mixed with something else: {wrong}")


def _indexed(index: object) -> list[tuple[str, int, str]]:
    """Return every (path, size, sha256) anywhere in an index."""
    if isinstance(index, dict):
        own = [(index["path"], index["size"], index["sha256"])] if {"path", "size", "sha256"} <= index.keys() else []
        return own + [one for value in index.values() for one in _indexed(value)]
    return [one for value in index for one in _indexed(value)] if isinstance(index, list) else []


def _differs(version: Version, tree: dict[str, dict]) -> str | None:
    if more := set(tree) ^ set(version.files) ^ EMPTY:
        return f"{len(more)} files too many or too few, first {min(more)}"
    for path, (size, sha256, git) in version.files.items():
        entry = tree[path]
        if entry["size"] != size or (entry["lfs"]["oid"] != sha256 if "lfs" in entry else entry["oid"] != git):
            return f"{path} is of another version"
    return None


def main(url: str, versions: Path) -> None:
    """Poll until stdin ends."""
    reader = Reader(url, read_list(versions))
    state = {"repo": None, "ended": False}

    def listen() -> None:
        for line in sys.stdin:
            state["repo"] = line.strip()
        state["ended"] = True

    threading.Thread(target=listen, daemon=True).start()
    looks, seen, broken = 0, set(), []
    while not state["ended"]:
        repo, head = state["repo"], None
        if repo:
            head = reader.head(repo)
            looks += head is not None
        if head and (repo, head) not in seen:
            try:
                version, why = reader.version(repo, head)
            except OSError:
                continue  # the hub was taken away: looked at again
            seen.add((repo, head))
            if version is None:
                broken.append({"repo": repo, "commit": head, "why": why})
        time.sleep(PAUSE)
    print(json.dumps({"looks": looks, "heads": len(seen), "broken": broken}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
