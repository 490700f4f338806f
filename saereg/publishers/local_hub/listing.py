"""Lists in pages, and the list of the repositories of one author."""

from urllib.parse import urlencode

from saereg.publishers.local_hub.store import Json
from saereg.publishers.local_hub.transport import Reply, Transport


class Listing(Transport):
    """What is answered in pages."""

    def _page(self, items: list[Json], size: int) -> Reply:
        begin = int(self.query.get("cursor", 0))
        more = f"{self.base}{self.place}?{urlencode(self.query | {'cursor': str(begin + size)})}"
        return Reply(
            items[begin : begin + size], 200, {"Link": f'<{more}>; rel="next"'} if items[begin + size :] else {}
        )

    def _models(self) -> Reply:
        """List the models of an author with their files; private ones only to who has a token."""
        author, found = self.query.get("author", ""), []
        for name in self.server.store.names(f"models/{author}"):
            repo = self.server.store.repo(f"models/{author}/{name}")
            if repo is None or (repo.state["private"] and not self.headers.get("Authorization")):
                continue
            oid = repo.resolve("main")
            siblings = [{"rfilename": path} for path in repo.commit(oid)["tree"]]
            found.append({"_id": oid[:24], "id": f"{author}/{name}", "sha": oid, "siblings": siblings, "tags": []})
        return self._page(found, self.server.switches.page)
