"""What is answered to each request of the Hub's protocol, and the table of them."""

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from saereg.publishers.local_hub.listing import Listing
from saereg.publishers.local_hub.store import Json, Refusal, Tree, applied, blocks_of, entry, matches, merged, now
from saereg.publishers.local_hub.transport import ME, MESSAGES, Fault, Reply
from saereg.registry.cards.yaml_head import read_front_matter

REGULAR = 10 * 1024 * 1024  # bytes above which a file is an LFS file whatever its name
KIND, NAME, REV, SHA = "(models|datasets|spaces)", r"([\w-][\w.-]*/[\w-][\w.-]*)", "([^/]+)", "([0-9a-f]{64})"
API, SITE, TALK = f"/api/{KIND}/{NAME}", f"/(?:(datasets|spaces)/)?{NAME}", f"/api/{KIND}/{NAME}/discussions"


class Handler(Listing):
    """One method per request; `words` are the groups of its pattern: as a rule kind, name and revision."""

    def _site(self) -> str:
        return "/".join([self.base, *(word for word in self.words[:2] if word != "models")])

    def _json(self) -> Json:
        return dict(json.loads(b"".join(self.blocks()) or b"{}"))

    def _head(self, name: str = "") -> str:
        """Return the commit of a revision, by default that of the request; for a stale read the one before it."""
        name = name or self.words[2] or "main"
        oid, branches = self.repo.resolve(name), f"refs/heads/{name.removeprefix('refs/heads/')}"
        stale = self.fault.stale and branches in self.repo.state["refs"]
        return str(next(iter(self.repo.commit(oid)["parents"]), oid)) if stale else oid

    def _nothing(self) -> Reply:
        return Reply({})

    def _whoami(self) -> Reply:
        token = {"displayName": self.me, "role": "read" if "read" in self.headers["Authorization"] else "write"}
        return Reply({"type": "user", "name": self.me, "fullname": self.me, "orgs": [], "auth": {"accessToken": token}})

    def _create(self) -> Reply:
        wish = self._json()
        self.words = [f"{wish.get('type') or 'model'}s", f"{wish.get('organization') or ME}/{wish['name']}"]
        if not re.fullmatch(API, f"/api/{'/'.join(self.words)}"):
            raise Refusal(400, f"Invalid repository name: {self.words[1]}")
        if re.search("read|propose", self.headers["Authorization"]):
            raise Refusal(403, "You don't have the rights to create a model under this namespace")
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        said = {"url": self._site(), "id": self.words[1]}
        if self.server.store.create("/".join(self.words), ME, private=private):
            return Reply(said)
        return Reply(said | {"error": "You already created this repo"}, 409)

    def _yaml(self) -> Reply:
        head = read_front_matter(str(self._json()["content"]))
        warnings = [] if head.present else [{"message": "empty or missing yaml metadata in repo card"}]
        errors = [{"message": f"{problem.sentence} (line {problem.line})"} for problem in head.problems]
        return Reply({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    def _preupload(self) -> Reply:
        wish, tree, files = self._json(), self.repo.commit(self._head())["tree"], []

        def lines(path: str, given: str | None) -> list[str]:
            kept = self.server.store.blob(tree[path]["sha256"]).read_text("utf-8") if path in tree else ""
            return [line for line in (kept if given is None else given).splitlines() if line.strip() and line[0] != "#"]

        large = [line.split()[0] for line in lines(".gitattributes", wish.get("gitAttributes")) if "filter=lfs" in line]
        ignored = lines(".gitignore", wish.get("gitIgnore"))
        for path, size in ((file["path"], file["size"]) for file in wish["files"]):
            old, lfs = tree.get(path), size > REGULAR or (size > 0 and matches(path, large))
            skip = matches(path, ignored) or (self.fault.ignore != "" and self.fault.ignore in path)
            oid = old and old["sha256" if old["lfs"] else "git"]
            files.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": skip, "oid": oid})
        return Reply({"files": files})

    def _batch(self) -> Reply:
        wish, most, objects = self._json(), self.server.switches.multipart_over, []
        for oid, size in ((one["oid"], one["size"]) for one in wish["objects"]):
            upload: Json = {"href": f"{self.base}/_lfs/{oid}", "header": {}}
            verify = {"href": f"{upload['href']}/verify"}
            if size > most and "multipart" in wish.get("transfers", ()):
                parts = {str(n + 1): f"{upload['href']}/{n + 1}" for n in range(-(-size // most))}
                upload = {"href": f"{upload['href']}/parts", "header": {"chunk_size": str(most)} | parts}
            actions = {"actions": {"upload": upload, "verify": verify}} if self._held(oid) is None else {}
            objects.append({"oid": oid, "size": size} | actions)
        return Reply({"transfer": "basic", "objects": objects})

    def _held(self, sha256: str) -> int | None:
        """Return the size of an LFS file whose content is here, as a blob or in the Xet storage."""
        path, cas = self.server.store.blob(sha256), self.server.cas
        found = cas.find(sha256) if cas and not path.is_file() else None
        return path.stat().st_size if path.is_file() else found and found[1]

    def _put(self) -> Reply:
        sha256, part = self.words
        to = self.server.store.incoming / f"{sha256}.{part}" if part else None
        return Reply(headers={"ETag": self.server.store.receive(self.blocks(), "" if part else sha256, to)[0]})

    def _join(self) -> Reply:
        names = [f"{self.words[0]}.{part['partNumber']}" for part in self._json()["parts"]]
        parts = [self.server.store.incoming / name for name in names]
        if not all(part.is_file() for part in parts):
            raise Refusal(400, "A part of the file was not received")
        self.server.store.receive((block for part in parts for block in blocks_of(part)), self.words[0])
        for part in parts:
            part.unlink(missing_ok=True)
        return Reply({})

    def _verify(self) -> Reply:
        if self._held(self.words[0]) != self._json()["size"]:
            raise Refusal(404, "The object does not exist or has another size")
        return Reply({})

    def _lines(self) -> Iterator[Json]:
        """Yield the lines of a commit, with one of them in memory at a time."""
        rest = b""
        for block in self.blocks():
            *whole, rest = (rest + block).split(b"\n")
            yield from (json.loads(line) for line in whole if line)
        yield from (json.loads(line) for line in [rest] if line)

    def _added(self, key: str, value: Json) -> Json | None:
        """Return the entry of a file that a commit adds; its content is kept, though no commit shows it yet."""
        if {"", ".", "..", ".git"} & set(value["path"].rstrip("/").split("/")):
            raise Refusal(400, f"Invalid path: {value['path']!r}")
        if key == "lfsFile":
            size = self._held(value["oid"])
            if size is None or value.get("size", size) != size:
                raise Refusal(400, MESSAGES[400])
            return entry(value["oid"], size)
        content = base64.b64decode(value.get("content", ""))
        if len(content) > REGULAR:
            raise Refusal(400, f"{value['path']} is larger than 10 MiB: send it as an LFS file")
        return self.server.store.keep(content) if key == "file" else None

    def _commit(self) -> Reply:
        header, todo, pull = Json(), [], "create_pr" in self.query
        for key, value in ((line["key"], line["value"]) for line in self._lines()):
            header = value if key == "header" else header
            todo += [] if key == "header" else [(key, value["path"].rstrip("/"), self._added(key, value))]
        self._needs(self.server.switches.pull_requests or not pull, "Pull requests")
        wanted, ref = header.get("parentCommit") or "", self.words[2]
        ref = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        with self.repo.changing() as state:
            if ref not in state["refs"] or ref.startswith("refs/tags/"):
                raise Refusal(404, f"Invalid rev id: {ref}", "RevisionNotFound")
            head = self.repo.resolve(wanted) if pull and wanted else state["refs"][ref]
            if self.server.switches.lock and not head.startswith(wanted):
                raise Refusal(412, MESSAGES[412])
            tree = applied(self.repo.commit(head)["tree"], todo)
            oid = self.repo.write([head], tree, header["summary"], header.get("description") or "", self.me)
            said = {"success": True, "commitOid": oid, "commitUrl": f"{self._site()}/commit/{oid}", "hookOutput": ""}
            if pull:
                number = self._opened(state, header["summary"], "open", head)
                ref, said["pullRequestUrl"] = f"refs/pr/{number}", f"{self._site()}/discussions/{number}"
            state["refs"][ref] = oid
        return Reply(said)

    def _needs(self, able: bool, what: str) -> None:
        if not able:
            raise Refusal(501, f"{what} are not supported by this hub")

    def _lock(self) -> Reply:
        if not self.server.switches.lock:
            raise Refusal(404, "A commit may have any parent here")
        return Reply({})

    def _refs(self) -> Reply:
        lists: dict[str, list[Json]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
        for ref in self.repo.state["refs"]:
            _, kind, name = ref.split("/", 2)
            said = {"name": ref if kind == "pr" else name, "ref": ref, "targetCommit": self._head(ref)}
            lists[{"heads": "branches", "tags": "tags", "pr": "pullRequests"}[kind]].append(said)
        return Reply(lists)

    def _start(self) -> Reply:
        """Start a branch or a tag."""
        wish, tag = self._json(), self.asked.route == "tag"
        self._needs(self.server.switches.tags or not tag, "Tags")
        ref = f"refs/tags/{wish['tag']}" if tag else f"refs/heads/{self.words[2]}"
        if self.words[2].startswith("refs/") and not tag:
            raise Refusal(400, f"Invalid reference for a branch: {self.words[2]}")
        with self.repo.changing() as state:
            if ref in state["refs"]:
                raise Refusal(409, f"{ref} exists already")
            state["refs"][ref] = self.repo.resolve(self.words[2] if tag else wish.get("startingPoint") or "main")
        return Reply({})

    def _opened(self, state: Json, title: str, status: str, base: str) -> int:
        """Open a discussion; a pull request has the commit that it starts from."""
        number, repo = len(state["discussions"]) + 1, {"name": self.words[1], "type": self.words[0].removesuffix("s")}
        one = {
            "num": number,
            "title": title,
            "status": status,
            "isPullRequest": bool(base),
            "author": {"name": self.me},
        }
        more = {"createdAt": now(), "repo": repo, "events": [], "diff": "", "filesWithConflicts": []}
        changes = {"changes": {"base": "refs/heads/main", "from": base, "mergeCommitId": None}} if base else {}
        state["discussions"].append(one | more | changes)
        return number

    def _discussions(self) -> Reply:
        found, begin = self.repo.state["discussions"][::-1], int(self.query.get("p", 0)) * 10
        return Reply({"discussions": found[begin : begin + 10], "count": len(found), "start": begin})

    def _discuss(self) -> Reply:
        wish = self._json()
        pull = bool(wish.get("pullRequest"))
        self._needs(self.server.switches.pull_requests or not pull, "Pull requests")
        if not 3 <= len(wish["title"]) <= 200:
            raise Refusal(400, "The title must have 3 to 200 characters")
        with self.repo.changing() as state:
            main = state["refs"]["refs/heads/main"]
            number = self._opened(state, wish["title"], "draft" if pull else "open", main if pull else "")
            state["refs"] |= {f"refs/pr/{number}": main} if pull else {}
        return Reply({"num": number, "pullRequest": pull})

    def _one(self, state: Json) -> tuple[Json, Tree]:
        """Return the discussion of a request, and what main would be with it merged."""
        if not 0 < int(self.words[2]) <= len(state["discussions"]):
            raise Refusal(404, f"There is no discussion {self.words[2]}")
        one, refs = state["discussions"][int(self.words[2]) - 1], state["refs"]
        if not one["isPullRequest"] or one["status"] == "merged":
            return one, {}
        oids = (one["changes"]["from"], refs["refs/heads/main"], refs[f"refs/pr/{one['num']}"])
        tree, conflicts = merged(*(self.repo.commit(oid)["tree"] for oid in oids))
        return one | {"filesWithConflicts": conflicts}, tree

    def _discussion(self) -> Reply:
        return Reply(self._one(self.repo.state)[0])

    def _change(self) -> Reply:
        """Give a discussion another status; `merge` brings a pull request to main, as one commit."""
        wish, merge = self._json(), self.asked.route == "merge"
        with self.repo.changing() as state:
            one, tree = self._one(state)
            if one["status"] == "merged" or (merge and (one["status"] != "open" or not one["isPullRequest"])):
                raise Refusal(400, f"This cannot be changed: it is {one['status']}")
            if merge and one["filesWithConflicts"]:
                raise Refusal(409, f"This pull request has conflicts with main: {', '.join(one['filesWithConflicts'])}")
            event = {"id": uuid.uuid4().hex, "type": "status-change", "createdAt": now(), "author": {"name": self.me}}
            status = "merged" if merge else wish["status"]
            if merge:
                refs, title = state["refs"], f"{one['title']} (#{one['num']})"
                message = self.repo.commit(refs[f"refs/pr/{one['num']}"])["message"]
                oid = self.repo.write([refs["refs/heads/main"]], tree, title, message, self.me)
                refs["refs/heads/main"] = one["changes"]["mergeCommitId"] = oid
            event |= {"data": {"status": status}}
            state["discussions"][one["num"] - 1] = one | {"status": status, "events": [*one["events"], event]}
        return Reply({"newStatus": event})

    def _entry(self, path: str, file: Json) -> Json:
        said = {"type": "file", "path": path, "rfilename": path, "oid": file["git"], "blobId": file["git"]}
        held = self.server.cas.find(file["sha256"]) if file["lfs"] and self.server.cas else None
        lfs = {"oid": file["sha256"], "sha256": file["sha256"], "size": file["size"], "pointerSize": file["pointer"]}
        return (
            said
            | {"size": file["size"]}
            | ({"lfs": lfs} if file["lfs"] else {})
            | ({"xetHash": held[0]} if held else {})
        )

    def _listing(self, oid: str) -> dict[str, Json]:
        """Return path → description of every file and folder of a commit."""
        tree, folders = self.repo.commit(oid)["tree"], dict[str, Json]()
        for path, file in sorted(tree.items()):
            for parent in map(str, list(PurePosixPath(path).parents)[:-1]):
                known = folders.setdefault(parent, {"type": "directory", "path": parent, "oid": "", "size": 0})
                inside = f"{known['oid']}{path}{file['git']}".encode()
                known["oid"] = hashlib.sha1(inside, usedforsecurity=False).hexdigest()
        return dict(sorted((folders | {path: self._entry(path, file) for path, file in tree.items()}).items()))

    def _dated(self, oid: str, items: list[Json]) -> None:
        """Add to every item the last commit that changed it."""
        for commit in self.repo.history(oid):
            older = self._listing(commit["parents"][0]) if commit["parents"] else {}
            last = {"id": commit["oid"], "title": commit["title"], "date": commit["date"]}
            safe = {"status": "unscanned", "avScan": None, "pickleImportScan": None}
            for item in items:
                if "lastCommit" not in item and older.get(item["path"], {}).get("oid") != item["oid"]:
                    item |= {"lastCommit": last, "securityFileStatus": safe}

    def _tree(self) -> Reply:
        oid, start, most = self._head(), self.words[3].strip("/") + "/", self.server.switches.page
        deep, expand = (self.query.get(name, "").lower() == "true" for name in ("recursive", "expand"))
        every, start = self._listing(oid), start.removeprefix("/")
        if start and every.get(start[:-1], {}).get("type") != "directory":
            raise Refusal(404, f"{start[:-1]} is no folder of {self.words[2]}", "EntryNotFound")
        items = [
            one for path, one in every.items() if path.startswith(start) and (deep or "/" not in path[len(start) :])
        ]
        reply = self._page(items, min(50, most) if expand else most)
        self._dated(oid, reply.value if expand else [])
        return reply

    def _paths(self) -> Reply:
        wish, oid = parse_qs(b"".join(self.blocks()).decode()), self._head()
        items = [one for path, one in self._listing(oid).items() if path in {name.strip("/") for name in wish["paths"]}]
        self._dated(oid, items if wish.get("expand", [""])[0].lower() == "true" else [])
        return Reply(items)

    def _commits(self) -> Reply:
        found = list(self.repo.history(self._head()))
        said = [{key: one[key] for key in ("title", "message", "date")} | {"id": one["oid"]} for one in found]
        return self._page([one | {"authors": [{"user": ME}]} for one in said], min(50, self.server.switches.page))

    def _info(self) -> Reply:
        oid, state, name = self._head(), self.repo.state, self.words[1]
        said: Json = {"_id": oid[:24], "id": name, "sha": oid, "private": state["private"], "gated": False, "tags": []}
        said |= {"disabled": False, "createdAt": state["created"], "lastModified": self.repo.commit(oid)["date"]}
        siblings = [self._entry(path, file) for path, file in self.repo.commit(oid)["tree"].items()]
        brief = [one if "blobs" in self.query else {"rfilename": one["path"]} for one in siblings]
        return Reply(said | {"downloads": 0, "likes": 0, "siblings": brief})

    def _resolve(self) -> Reply:
        oid, path, cas, store = self.repo.resolve(self.words[2]), self.words[3], self.server.cas, self.server.store
        if (file := self.repo.commit(oid)["tree"].get(path)) is None:
            raise Refusal(404, f"{path} does not exist", "EntryNotFound")
        tag, blob = f'"{file["sha256" if file["lfs"] else "git"]}"', store.blob(file["sha256"])
        said = {"X-Repo-Commit": oid, "ETag": tag, "Accept-Ranges": "bytes"}
        said |= {"X-Linked-Etag": tag, "X-Linked-Size": str(file["size"])} if file["lfs"] else {}
        if cas and file["lfs"] and (held := cas.find(file["sha256"])):
            auth = f"{self.base}/api/{self.words[0]}/{self.words[1]}/xet-read-token/{oid}"
            said |= {"X-Xet-Hash": held[0], "Link": f'<{auth}>; rel="xet-auth"'}
            temporary = store.incoming / uuid.uuid4().hex
            if not blob.is_file() and self.command == "GET" and cas.fetch(*held, temporary):
                store.receive(blocks_of(temporary), file["sha256"])
                temporary.unlink()
        if not blob.is_file() and self.command == "GET":
            raise Refusal(
                501, f"{path} is in the Xet storage, which this hub cannot read: install hf-xet where it runs"
            )
        return Reply(None, 200, said, blob, file["size"])

    def _xet(self) -> Reply:
        if not (cas := self.server.cas):
            raise Refusal(404, "This hub has no Xet storage")
        headers = {"X-Xet-Cas-Url": cas.where, "X-Xet-Access-Token": ME, "X-Xet-Token-Expiration": str(cas.until)}
        return Reply({"casUrl": cas.where, "exp": cas.until, "accessToken": ME}, 200, headers)

    def _driven(self) -> Reply:
        self._needs(self.server.switches.allow_faults, "Faults from outside")
        if self.command == "POST":
            try:
                wanted = [Fault(**one) for one in self._json()["faults"]]
            except (AttributeError, KeyError, TypeError, ValueError):
                wanted = [Fault("", status="")]  # type: ignore[arg-type]
            if not all(fault.is_sound for fault in wanted):
                known = ", ".join(vars(Fault("")))
                raise Refusal(400, f'write {{"faults": [{{"route": "commit", "status": 504}}]}}; there are {known}')
            self.server.faults[:] = wanted
        return Reply(
            [vars(one) for one in (self.server.requests if self.words[0] == "requests" else self.server.faults)]
        )

    routes = (
        ("whoami", "GET", "/api/whoami-v2", "user", _whoami),
        ("create", "POST", "/api/repos/create", "user", _create),
        ("yaml", "POST", "/api/validate-yaml", "", _yaml),
        ("auth", "GET", f"{API}/auth-check", "read", _nothing),
        ("auth", "GET", f"{API}/auth-check/write", "write", _nothing),
        ("models", "GET", "/api/models", "", Listing._models),
        ("info", "GET", f"{API}(?:/revision/{REV})?", "read", _info),
        ("tree", "GET", f"{API}/tree/{REV}(/.*)?", "read", _tree),
        ("paths", "POST", f"{API}/paths-info/{REV}", "read", _paths),
        ("refs", "GET", f"{API}/refs", "read", _refs),
        ("commits", "GET", f"{API}/commits/{REV}", "read", _commits),
        ("lock", "GET", f"{API}/commit-lock", "read", _lock),
        ("preupload", "POST", f"{API}/preupload/{REV}", "write", _preupload),
        ("commit", "POST", f"{API}/commit/{REV}", "write", _commit),
        ("branch", "POST", f"{API}/branch/{REV}", "write", _start),
        ("tag", "POST", f"{API}/tag/{REV}", "write", _start),
        ("discussion", "GET", TALK, "read", _discussions),
        ("discussion", "POST", TALK, "propose", _discuss),
        ("discussion", "GET", rf"{TALK}/(\d+)", "read", _discussion),
        ("status", "POST", rf"{TALK}/(\d+)/status", "propose", _change),
        ("merge", "POST", rf"{TALK}/(\d+)/merge", "write", _change),
        ("xet", "GET", f"{API}/xet-read-token/{REV}", "read", _xet),
        ("xet", "GET", f"{API}/xet-write-token/{REV}", "write", _xet),
        ("batch", "POST", rf"{SITE}\.git/info/lfs/objects/batch", "propose", _batch),
        ("put", "PUT", rf"/_lfs/{SHA}(?:/(\d+))?", "", _put),
        ("put", "POST", f"/_lfs/{SHA}/parts", "", _join),
        ("verify", "POST", f"/_lfs/{SHA}/verify", "user", _verify),
        ("resolve", "GET", f"{SITE}/resolve/{REV}/(.+)", "read", _resolve),
        ("hub", "GET", "/_(requests|faults)", "", _driven),
        ("hub", "POST", "/_(faults)", "", _driven),
    )
    """(word, method, pattern of the path, right that is needed, answer); HEAD is answered as GET."""
