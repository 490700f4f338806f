"""One series of publishes, with kills, faults or races; takes its task as JSON in a file, prints what came of it."""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from reliability_machine import Machine, Run, load
from reliability_releases import Version

AIMED = ("create", "commit", "discussion", "status", "merge", "tag", "put", "batch", "preupload", "xet", "auth", "info")
"""Requests at which kills are aimed; the first six more often."""

HELD = 0.25
"""Seconds for which the hub holds such a request, so that the kill falls into it."""


class Series:
    """Publishes version after version, to repository after repository."""

    def __init__(self, machine: Machine, task: dict) -> None:
        self.machine, self.task, self.random = machine, task, random.Random(task["seed"])
        self.results: list[dict] = []
        self.clean: dict[str, float] = {}
        self.restarts = False
        self.phases: dict[str, list[tuple[str, str, int]]] = {}

    def steps(self) -> Iterator[tuple[Version, str, str]]:
        """Yield (version, repository, "new" or "update") for ever; each round has a hub without any bytes."""
        number = 0
        while True:
            self.machine.start()
            number += 1
            repo = f"org/round-{number}"
            self.machine.watch(repo)
            for position, version in enumerate(self.machine.versions[: self.task.get("depth")]):
                if position and self.restarts:
                    break
                self.restarts = False
                self.machine.forget()
                yield version, repo, "update" if position else "new"

    def measure(self) -> None:
        """Publish three versions undisturbed: how long it takes, and which requests there are."""
        for (version, repo, kind), _ in zip(self.steps(), range(3), strict=False):
            self.machine.watch("")
            past = self.past(repo)
            before = len(self.machine.requests())
            run = self.machine.publish(version, repo)
            seen = self.machine.requests()[before:]
            self.clean[kind] = run.seconds
            if problems := self.judge(version, repo, past, run):
                raise SystemExit(f"an undisturbed publish fails: {problems}\n{run.said}")
            own, counted = [one for one in seen if one["route"] not in ("", "hub")], Counter()
            self.phases[kind] = []
            for one in own:
                what = (one["method"], one["route"])
                self.phases[kind].append((*what, counted[what]))
                counted[what] += 1

    def past(self, repo: str) -> int:
        """Return the number of commits on main."""
        return len(self.machine.reader.history(repo)) if self.machine.reader.head(repo) else 0

    def judge(self, version: Version, repo: str, past: int, run: Run) -> list[str]:
        """Return what is wrong after a publish that said that it ended well."""
        reader, problems = self.machine.reader, []
        if run.code != 0:
            return [f"exit {run.code}: {run.complaint or run.said[-300:]}"]
        head = reader.head(repo)
        found, why = reader.version(repo, head) if head else (None, "no head")
        if found != version.version:
            problems.append(f"lost files: main holds {found}: {why}")
        if "--no-tags" not in self.machine.switches and reader.tags(repo).get(f"v{version.version}") != head:
            problems.append("the tag is not at the release")
        history = reader.history(repo)
        if len(history) != (past or 1) + 1 and not self.task.get("visible_parts"):
            problems.append(f"duplicate commit: {len(history)} commits on main after {past}")
        trees = [reader.tree(repo, commit) for commit in history]
        problems += ["duplicate commit: the same tree twice" for a, b in pairwise(trees) if a == b]
        for commit in history[: len(history) - past]:
            state, why = reader.version(repo, commit)
            if state is None and not self.task.get("visible_parts"):
                problems.append(f"broken head: {commit[:8]} {why}")
        if "--no-pull-requests" not in self.machine.switches:
            pulls = [one for one in reader.pull_requests(repo) if f" {version.version} " in one["title"]]
            closed = "closed" if self.task["work"] == "faults" else ""  # after a conflict that was only seemingly one
            if len([one for one in pulls if one["status"] != closed]) > 1:
                problems.append(f"second pull request: {[(one['num'], one['status']) for one in pulls]}")
            if left := [one["num"] for one in pulls if one["status"] in ("open", "draft")]:
                problems.append(f"pull request left open: {left}")
        return problems

    # --- kills

    def kills(self) -> dict:
        """Kill publishes at random points and run them again."""
        self.measure()
        wanted, killed = self.task["count"], 0
        for version, repo, kind in self.steps():
            if killed >= wanted:
                break
            past, runs = self.past(repo), []
            aimed = self.random.random() < 0.5
            known: set[str] = set()
            while True:
                run, where = self._aimed(version, repo, kind) if aimed else self._timed(version, repo, kind)
                runs.append(run)
                known |= run.weights
                aimed = self.random.random() < 0.5
                if run.code == -9:
                    killed += 1
                    self.results.append({"where": where, "kind": kind, "problems": []})
                if run.code != -9 or self.random.random() > 0.25:
                    break
            kept = self.machine.digests()
            again = runs.pop() if run.code != -9 else self.machine.publish(version, repo)
            problems = self.judge(version, repo, past, again)
            twice = again.weights & known if again is not run else set()
            if wrong := twice & kept:
                problems.append(f"hashed again: {len(wrong)} files whose digests were kept, first {min(wrong)}")
            if self.results and runs:
                self.results[-1] |= {"problems": problems, "hashed": len(known), "hashed_again": len(twice)}
                self.results[-1] |= {"said": again.said[-2000:]} if problems else {}
            elif problems:
                self.results.append({"where": "not killed", "kind": kind, "problems": problems, "said": again.said})
        return self._done()

    def _timed(self, version: Version, repo: str, kind: str) -> tuple[Run, str]:
        delay = self.random.uniform(0, 1.0) * self.clean[kind]
        begun = self.machine.begin(version, repo)
        return self.machine.end(begun, begun[1] + delay), f"{delay:.3f} s of {self.clean[kind]:.3f}"

    def _aimed(self, version: Version, repo: str, kind: str) -> tuple[Run, str]:
        here = sorted({one[:2] for one in self.phases[kind] if one[1] in AIMED})
        first = [one for one in here if one[1] in AIMED[:6]]
        method, route = self.random.choice(first if self.random.random() < 0.7 else here)
        nth = self.random.randrange(sum(one[:2] == (method, route) for one in self.phases[kind]))
        when = self.random.choice(["before", "after"])
        hold = {"route": route, "path": _of(method), "when": when, "status": 0, "seconds": HELD}
        self.machine.faults([*_skip(route, method, nth), hold])
        begun = self.machine.begin(version, repo)
        until = time.monotonic() + 10
        while time.monotonic() < until and self.machine.faults()[-1]["count"]:
            time.sleep(0.004)
        run = self.machine.end(begun, time.monotonic() + self.random.uniform(0, 1.4 * HELD))
        self.machine.faults([])
        return run, f"{when} {method} {route} {nth + 1}"

    # --- faults

    def faults(self) -> dict:
        """Let one thing go wrong in every request in turn."""
        self.measure()
        cells = self.task.get("cells") or self.cells()
        cells = sorted(cells[self.task["part"] :: self.task["parts"]], key=lambda one: one["nth"] < 0)
        steps = self.steps()
        version, repo, kind = next(steps)
        for cell in cells:
            while kind != cell["kind"]:
                if cell["kind"] == "new":
                    self.restarts = True
                    version, repo, kind = next(steps)
                    continue
                past = self.past(repo)
                if problems := self.judge(version, repo, past, self.machine.publish(version, repo)):
                    raise SystemExit(f"without a fault: {problems}")
                version, repo, kind = next(steps)
            self.results.append(cell | self._cell(version, repo, cell))
            print(json.dumps(self.results[-1]), file=sys.stderr, flush=True)
            version, repo, kind = next(steps)
        return self._done()

    def cells(self) -> list[dict]:
        """Return every (request, fault): the first, the second and the last of each kind of request."""
        found, only = [], self.task.get("routes")
        for kind, phases in self.phases.items():
            last = {what[:2]: what[2] for what in phases}
            wanted = ("create", "info", "auth") if kind == "new" else only or {route for _, route in last}
            for method, route, nth in phases:
                if route not in wanted or nth not in (0, last[method, route], *self.task.get("nth", [])):
                    continue
                where = {"kind": kind, "method": method, "route": route, "nth": nth}
                found += [where | {"fault": name} for name, fits in FAULTS.items() if fits(method, route)]
            for method, route in last:
                if route in wanted and (kind == "update" or route == "create"):
                    where = {"kind": kind, "method": method, "route": route, "nth": -1}
                    names = LASTING if route in ("info", "commit", "merge") else LASTING_EVERYWHERE
                    found += [where | {"fault": name} for name in names]
        return found

    def _cell(self, version: Version, repo: str, cell: dict) -> dict:
        """Publish with one fault, and again without it where that was refused."""
        past, lasting = self.past(repo), cell["nth"] < 0
        fault = {"route": cell["route"], "path": _of(cell["method"])} | (LASTING if lasting else SHAPES)[cell["fault"]]
        lead = [] if lasting else _skip(cell["route"], cell["method"], cell["nth"])
        self.machine.faults([*lead, fault | ({"count": -1} if lasting else {})])
        run = self.machine.publish(version, repo, haste="slower than" in cell["fault"])
        hit = self.machine.faults()[-1]["count"] != fault.get("count", 1)
        self.machine.faults([])
        said = {"code": run.code, "seconds": round(run.seconds, 2), "complaint": run.complaint, "hit": hit or lasting}
        problems = []
        if run.crashed:
            problems.append("traceback")
        if run.code == -9:
            problems.append("hang")
        if run.code == 0:
            return said | {"outcome": "published", "problems": problems + self.judge(version, repo, past, run)}
        if not run.complaint:
            problems.append("no clear line")
        again = self.machine.publish(version, repo)
        problems += self.judge(version, repo, past, again)
        return said | {"outcome": "refused", "problems": problems, "said": run.said[-1500:], "again": again.said[-700:]}

    # --- races

    def races(self) -> dict:
        """Let two publishers carry out two plans for the same base at the same moment."""
        versions = self.machine.versions
        for number in range(self.task["count"]):
            if number % 3 == 0:
                self.machine.start()
            repo = f"org/race-{number}"
            self.machine.watch(repo)
            old, mine, yours = versions[0], *self.random.sample(versions[1:], 2)
            self.machine.publish(old, repo)
            past, plans = self.past(repo), {}
            for name, version in (("a", mine), ("b", yours)):
                plans[name] = self.machine.folder / f"plan-{number}-{name}.json"
                made = self.machine.publish(version, repo, machine=name, more=("--plan", str(plans[name])))
                if made.code:
                    raise SystemExit(made.said)
            names = [("a", mine), ("b", yours)]
            self.random.shuffle(names)
            begun = []
            held = [{"route": word, "status": 0, "seconds": 0.4, "count": 2} for word in ("commit", "merge")]
            self.machine.faults(held[number % 2 :] if number % 4 < 2 else [])  # so that both are past every look
            for name, version in names:
                begun.append(self.machine.begin(version, repo, machine=name, more=("--apply", str(plans[name]))))
                time.sleep(self.random.choice([0, 0, 0.02, 0.1]))
            runs = [self.machine.end(one) for one in begun]
            self.machine.faults([])
            self.results.append(self._raced(repo, past, names, runs))
        return self._done()

    def _raced(self, repo: str, past: int, names: list, runs: list[Run]) -> dict:
        reader, problems = self.machine.reader, []
        winners = [version for (_, version), run in zip(names, runs, strict=True) if run.code == 0]
        losers = [run for run in runs if run.code != 0]
        if len(winners) != 1:
            problems.append(f"{len(winners)} publishers say that they won")
        for run in losers:
            if run.code != 4 or "has moved from" not in run.said or "\n  ~ README.md" not in run.said:
                problems.append(f"the loser does not report a conflict with a diff: exit {run.code}: {run.said[-600:]}")
        found, why = reader.version(repo, reader.head(repo))
        if winners and found != winners[0].version:
            problems.append(f"main holds {found} ({why}), not what the winner sent")
        history = reader.history(repo)
        told = [run for run in losers if "was made on top of it" in run.said]
        if "--no-lock" in self.machine.switches and len(history) == past + 2 and told and len(losers) == 1:
            whole = reader.version(repo, history[0])[0] and reader.version(repo, history[1])[0]
            return {"problems": [] if whole else ["broken head"], "both": True, "pull_requests_left": []}
        if len(history) != past + 1:
            problems.append(f"{len(history) - past} commits for one winner")
        if any(reader.version(repo, commit)[0] is None for commit in history):
            problems.append("broken head")
        left = []
        if "--no-pull-requests" not in self.machine.switches:
            left = [one["num"] for one in reader.pull_requests(repo) if one["status"] in ("open", "draft")]
        said = [run.complaint for run in losers]
        return {"problems": problems, "complaint": said[:1], "pull_requests_left": left}

    def _done(self) -> dict:
        self.machine.stop()
        seen = {"looks": self.machine.looks, "heads": self.machine.heads, "broken": self.machine.broken}
        return {"results": self.results, "reader": seen, "clean": self.clean, "phases": self.phases}


def _of(method: str) -> str:
    """Return what a request of the publisher has in it, and none of the reader."""
    return "GET saereg/" if method == "GET" else f"{method} "


def _skip(route: str, method: str, count: int) -> list[dict]:
    """Return the fault that lets so many requests pass."""
    return [{"route": route, "path": _of(method), "status": 0, "count": count}] if count else []


BUSY = {"RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"fixed window";"api";q=1;w=1'}

SHAPES: dict[str, dict] = {
    "504 before": {"status": 504},
    "504 after": {"status": 504, "when": "after"},
    "500 before": {"status": 500},
    "500 after": {"status": 500, "when": "after"},
    "dropped before": {"drop": True},
    "dropped after": {"drop": True, "when": "after"},
    "412": {"status": 412},
    "429, 1 s": {"status": 429, "headers": BUSY},
    "slow, 1 s": {"status": 0, "seconds": 1.0},
    "slower than the timeout, before": {"status": 0, "seconds": 6.5},
    "slower than the timeout, after": {"status": 0, "seconds": 6.5, "when": "after"},
    "ignored by the Hub": {"ignore": "safetensors"},
    "missing blob": {"status": 400},
    "stale head": {"stale": True},
    "stale head, 3 times": {"stale": True, "count": 3},
    "Xet absent": {"status": 404, "count": 2},
}

LASTING: dict[str, dict] = {
    "504 always": {"status": 504},
    "dropped always": {"drop": True},
    "429 always": {"status": 429, "headers": BUSY},
    "403 always": {"status": 403, "message": "You don't have the rights to do this"},
}

LASTING_EVERYWHERE = ("dropped always", "403 always")

READS = ("info", "refs", "tree", "commits", "paths")

FAULTS = dict.fromkeys(SHAPES, lambda method, route: True) | {
    "412": lambda method, route: method == "POST",
    "ignored by the Hub": lambda method, route: route == "preupload",
    "missing blob": lambda method, route: route == "commit",
    "stale head": lambda method, route: route in READS,
    "stale head, 3 times": lambda method, route: route in READS,
    "Xet absent": lambda method, route: route == "xet",
}


def main(file: Path) -> None:
    """Do the task."""
    task = json.loads(file.read_text())
    folder = Path(task["folder"])
    folder.mkdir(parents=True)
    machine = Machine(folder, Path(task["versions"]), task["switches"])
    machine.start()  # its address must be known before the Hub client is imported
    load()
    try:
        print(json.dumps(getattr(Series(machine, task), task["work"])()))
    finally:
        machine.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
