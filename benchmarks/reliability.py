"""How reliable publishing to the Hub is: kills, faults and races against a hub on this machine, with a reader watching.

    python benchmarks/reliability.py [--kills 200] [--quick] [--json FILE] [--write docs/reliability.md] [--jobs 4]

What is done and what is counted is in docs/reliability.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import reliability_releases as releases

MARK = "<!-- benchmark -->"

MODES = (
    ("one commit, Xet", "small", []),
    ("one commit, Git LFS", "small", ["--no-xet"]),
    ("staged, Xet", "large", []),
    ("staged, Git LFS", "large", ["--no-xet"]),
)

LESSER = (
    ("no lock", "small", ["--no-lock", "--no-xet"]),
    ("no lock, staged", "large", ["--no-lock", "--no-xet"]),
    ("no pull requests", "large", ["--no-pull-requests", "--no-xet"]),
    ("no tags", "small", ["--no-tags", "--no-xet"]),
)
"""Hubs that can do less; all four of them lack Xet too."""

XET_ROUTES = ("xet", "preupload", "commit", "tree")
"""What is tried with faults against a hub with Xet; everything else is the same without."""


STAGED_ROUTES = ("discussion", "commit", "status", "merge", "tree", "info", "refs", "commits", "tag", "put")
"""What is tried with faults where files are staged; what is left out is the same in one commit."""


def tasks(kills: int, quick: bool) -> list[dict]:
    """Return every series, the longest first."""
    found = []
    for name, versions, switches in MODES:
        share = {"versions": versions, "switches": switches, "name": name}
        found.append(share | {"work": "kills", "count": -(-kills // 4), "depth": 3})
        xet = {} if switches else {"routes": XET_ROUTES}
        more = {"routes": STAGED_ROUTES} if switches and versions == "large" else {}
        parts = 1 if xet else 4
        if quick and (xet or versions == "large"):
            continue
        for part in range(parts):
            some = {"part": part + (parts * 5 if quick else 0), "parts": parts * (12 if quick else 1)}
            found.append(share | {"work": "faults", "nth": [1] if versions == "small" else []} | some | xet | more)
        if not xet:
            found.append(share | {"work": "races", "count": 2 if quick else 10})
    for name, versions, switches in LESSER:
        share = {"versions": versions, "switches": switches, "name": name}
        found.append(share | {"work": "kills", "count": 4 if quick else 20, "depth": 3})
        if "no lock" in name:
            found.append(share | {"work": "races", "count": 2 if quick else 10})
    order = ("faults", "kills", "races")
    return sorted(found, key=lambda one: (order.index(one["work"]), one["versions"]))


def run(task: dict, folder: Path, number: int) -> dict:
    """Do one series in a process of its own."""
    file = folder / f"task-{number}.json"
    own = {"folder": str(folder / f"series-{number}"), "seed": 1000 + number}
    file.write_text(json.dumps(task | own | {"versions": str(folder / f"{task['versions']}.json")}))
    started = time.monotonic()
    script = Path(__file__).with_name("reliability_worker.py")
    with (folder / f"log-{number}.txt").open("w+") as log:
        command = [sys.executable, str(script), str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
        log.seek(0)
        said = log.read()
    seconds = time.monotonic() - started
    try:
        result = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return task | {"failed": (done.stdout + said)[-3000:]}
    result.pop("phases")
    print(f"{task['name']}: {task['work']}, {len(result['results'])} in {seconds:.0f} s", file=sys.stderr)
    return task | result | {"seconds": round(seconds)}


def figures(done: list[dict]) -> str:
    """Return the tables."""
    return "\n\n".join([_kills(done), _faults(done), _races(done)])


def _table(head: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def _count(results: list[dict], word: str) -> int:
    return sum(any(word in problem for problem in one["problems"]) for one in results)


def _kills(done: list[dict]) -> str:
    head = ["", "kills", "broken heads", "looks of the reader", "duplicate commits", "second or left pull requests"]
    head += ["lost files", "not ended verified", "large files hashed", "of them again"]
    rows, total = [], Counter()
    names = list(dict.fromkeys(one["name"] for one in done if one["work"] == "kills"))
    for name in names:
        series = [one for one in done if one["work"] == "kills" and one["name"] == name]
        results = [result for one in series for result in one["results"]]
        killed = [one for one in results if one["where"] != "not killed"]
        cells = [
            len(killed),
            _count(results, "broken head") + sum(len(one["reader"]["broken"]) for one in series),
            sum(one["reader"]["looks"] for one in series),
            _count(results, "duplicate commit"),
            _count(results, "pull request"),
            _count(results, "lost files"),
            _count(results, "exit ") + _count(results, "tag is not") + _count(results, "lost files"),
            sum(one.get("hashed", 0) for one in results),
            sum(one.get("hashed_again", 0) for one in results),
        ]
        total.update(dict(enumerate(cells)))
        rows.append([name, *(f"{cell:,}" for cell in cells)])
    rows.append(["**all**", *(f"**{total[place]:,}**" for place in range(9))])
    return "### Killed and run again\n\n" + _table(head, rows)


def _faults(done: list[dict]) -> str:
    head = [
        "fault",
        "times",
        "published all the same",
        "refused in one line, published when run again",
        "anything else",
    ]
    parts = []
    for name in dict.fromkeys(one["name"] for one in done if one["work"] == "faults"):
        series = [one for one in done if one["work"] == "faults" and one["name"] == name]
        cells = [one for each in series for one in each["results"] if one["hit"]]
        looks = sum(one["reader"]["looks"] for one in series)
        broken = sum(len(one["reader"]["broken"]) for one in series)
        rows = []
        for fault in dict.fromkeys(one["fault"] for one in cells):
            some = [one for one in cells if one["fault"] == fault]
            bad = [one for one in some if one["problems"]]
            fine = [one["outcome"] for one in some if not one["problems"]]
            rows.append([fault, len(some), fine.count("published"), fine.count("refused"), len(bad)])
        phases = Counter(f"{one['method']} {one['route']}" for one in cells)
        said = f"{len(cells)} faults in {len(phases)} kinds of request ({', '.join(sorted(phases))}); "
        said += f"{broken} broken heads in {looks:,} looks; the longest publish took "
        said += f"{max((one['seconds'] for one in cells), default=0):.0f} s."
        parts.append(f"#### {name}\n\n{said}\n\n{_table(head, rows)}")
    return "### One thing goes wrong\n\n" + "\n\n".join(parts)


def _races(done: list[dict]) -> str:
    head = ["", "races", "one winner, one conflict with a diff", "both committed, the later one told so"]
    head += ["broken heads", "pull requests left", "anything else"]
    rows = []
    for one in done:
        if one["work"] == "races":
            bad = sum(bool(result["problems"]) for result in one["results"])
            left = sum(len(result["pull_requests_left"]) for result in one["results"])
            count, both = len(one["results"]), sum(bool(result.get("both")) for result in one["results"])
            rows.append([one["name"], count, count - bad - both, both, len(one["reader"]["broken"]), left, bad])
    return "### Two publishers at once\n\n" + _table(head, rows)


def wrong(done: list[dict]) -> list[dict]:
    """Return every result with a problem, for people to look at."""
    found = [one | {"series": one["name"]} for one in done if "failed" in one]
    for one in done:
        found += [{"series": one["name"]} | result for result in one.get("results", ()) if result["problems"]]
        found += [{"series": one["name"]} | seen for seen in one.get("reader", {}).get("broken", ())]
    return found


def main() -> None:
    """Make the releases, run every series, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 2), help="series at a time")
    parser.add_argument("--only", default="", help="some of: kills,faults,races")
    parser.add_argument("--merge", type=Path, help="JSON of an earlier run, for what is not run now")
    options = parser.parse_args()
    kills = min(options.kills, 20) if options.quick else options.kills
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, count, artifacts in (("small", 8, releases.SMALL), ("large", 5, releases.LARGE)):
            releases.write_list(releases.make(folder / name, count, artifacts), folder / f"{name}.json")
        wanted = [task for task in tasks(kills, options.quick) if task["work"] in (options.only or task["work"])]
        with ThreadPoolExecutor(options.jobs) as pool:
            done = list(pool.map(lambda pair: run(pair[1], folder, pair[0]), enumerate(wanted)))
    if options.merge:
        done += [
            one for one in json.loads(options.merge.read_text()) if one["work"] not in {own["work"] for own in done}
        ]
    done.sort(key=lambda one: [name for name, *_ in (*MODES, *LESSER)].index(one["name"]))
    if options.json:
        options.json.write_text(json.dumps(done, indent=1))
    for one in wrong(done):
        print(json.dumps(one), file=sys.stderr)
    text = figures([one for one in done if "failed" not in one])
    print(text)
    if options.write:
        before = options.write.read_text().partition(MARK)[0]
        options.write.write_text(f"{before}{MARK}\n\n{text}\n")
    if any("failed" in one for one in done):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
