"""How fast the catalogue is, beside SAELens' own registry, pandas and plain SQLite on the same rows.

    python benchmarks/registry.py [--quick] [--rounds 5] [--json] [--catalog FILE]

`import`: the registry of the installed SAELens read and put into a catalogue, beside SAELens' own call, which keeps
nothing, and beside the same file as a flat table of pandas. `cached`: the catalogue opened and asked, beside the same
call. Each in a new process, the imports of the library included; `call` is without them.

`process`: `saereg ls` and `saereg sql` as whole commands, beside Python with SAELens' call, and Python doing nothing.

`queries`: 1,000,000 made-up artifacts (`--quick`: 100,000) in one file: writing, size, a filtered query, a frontier;
beside pandas with the rows in memory, and plain SQLite that reads every row. All three must find as many rows.
`--catalog FILE` takes one that is there, or keeps the one that is made. Medians; the aims are those of docs/catalog.md.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
RELEASES, QUICK_RELEASES = 100, 10

SAELENS = (
    "from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory as get;"
    "print(sum(len(one.saes_map) for one in get().values()))"
)
LESS = "SELECT reference, l0, ev FROM artifacts WHERE l0 < 64 AND ev > 0.9"

AIMS = {
    "import": 2.0,
    "cached": 0.1,
    "ls": 0.35,
    "ls --where": 0.35,
    "sql": 0.35,
    "filtered": 0.05,
    "frontier": 0.5,
    "MB": 600.0,
}
"""What was aimed at: seconds of work of `saereg`; `MB` for a million artifacts."""


def child(name: str, file: Path, *more: object) -> dict:
    """Do one piece of work in a process of its own; `process` is the seconds of all of it."""
    started = time.perf_counter()
    command = [sys.executable, str(HERE / "registry_work.py"), name, str(file), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"process": time.perf_counter() - started}


def median(rounds: int, name: str, scratch: Path, *, new: bool = False) -> dict:
    """Return the median of each number of several runs."""
    runs = [child(name, scratch / (f"{number}.sqlite" if new else "cached.sqlite")) for number in range(rounds)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def small(scratch: Path, rounds: int) -> dict:
    """Measure the registry of SAELens: import, from cache, whole processes."""
    child("import saereg", scratch / "cached.sqlite")
    found = {
        "import": {
            "saereg": median(rounds, "import saereg", scratch, new=True),
            "SAELens": median(rounds, "import SAELens", scratch),
            "pandas": median(rounds, "import pandas", scratch),
        },
        "cached": {"saereg": median(rounds, "cached saereg", scratch)},
        "process": processes(scratch / "cached.sqlite", rounds),
    }
    found["cached"]["SAELens"] = found["import"]["SAELens"]
    return found


def processes(file: Path, rounds: int) -> dict:
    """Return the median seconds of whole commands, in turn."""
    run = [sys.executable, "-m", "saereg"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "ls": [*run, "ls", "--limit", "100"],  # as many as are shown on a terminal
        "ls, every row": [*run, "ls"],
        "ls --where": [*run, "ls", "--where", "l0 < 64 and ev > 0.9"],
        "sql": [*run, "sql", LESS],
        "SAELens": [sys.executable, "-c", SAELENS],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in list(commands)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            done = subprocess.run(commands[name], env=os.environ | {"SAEREG_CATALOG": str(file)}, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
            if done.returncode:
                raise SystemExit(done.stderr.decode())
    return {name: statistics.median(several) for name, several in seconds.items()}


def big(file: Path, releases: int) -> dict:
    """Measure a catalogue of so many releases of 10,000 artifacts; one that is there is not written again."""
    found: dict = {"rows": releases * 10_000}
    if not file.exists():
        found["write"] = child("write", file, releases)
    found["MB"] = file.stat().st_size / 1e6
    for name in ("saereg", "pandas", "sqlite"):
        found[name] = child(f"queries {name}", file)
    for query, ours in found["saereg"]["work"].items():
        theirs = {name: found[name]["work"][query]["rows"] for name in ("pandas", "sqlite")}
        if set(theirs.values()) != {ours["rows"]}:
            raise SystemExit(f"{query}: saereg found {ours['rows']} rows, {theirs}")
    return found


def lines(found: dict) -> Iterator[str]:
    """Yield the tables, as Markdown."""
    yield "| work | who | median s | without imports s | rows | saereg : it | aim s |"
    yield "|---|---|---|---|---|---|---|"
    for work in ("import", "cached"):
        ours = found[work]["saereg"]["seconds"]
        for who, numbers in found[work].items():
            aim = AIMS[work] if who == "saereg" else ""
            call = f"{numbers['call']:.3f}" if who != "saereg" else ""
            cells = (
                f"{numbers['seconds']:.3f}",
                call,
                f"{numbers['rows']:.0f}",
                f"{ours / numbers['seconds']:.3f}",
                aim,
            )
            yield f"| {work} | {who} | {' | '.join(map(str, cells))} |"
    for who, seconds in found["process"].items():
        ratio = found["process"]["ls --where"] / seconds
        yield f"| process | {who} | {seconds:.3f} | | | {ratio:.3f} | {AIMS.get(who, '')} |"
    yield ""
    million = found["queries"]
    yield f"{million['rows']:,} artifacts, {million['MB']:.0f} MB (aim: {AIMS['MB'] * million['rows'] / 1e6:.0f} MB)."
    if "write" in million:
        written = million["write"]
        yield f"Written in {written['seconds']:.1f} s, of which making rows is {written['making']:.1f} s."
    held = million["pandas"]
    yield f"pandas reads them in {held['reading']:.2f} s and holds {held['megabytes']} MB."
    yield ""
    yield "| query | saereg, first | saereg | pandas in memory | SQLite, every row | found | aim s |"
    yield "|---|---|---|---|---|---|---|"
    for query, ours in million["saereg"]["work"].items():
        others = [million[who]["work"][query]["median"] for who in ("pandas", "sqlite")]
        seconds = " | ".join(f"{value:.4f}" for value in (ours["first"], ours["median"], *others))
        yield f"| {query} | {seconds} | {ours['rows']} | {AIMS.get(query, '')} |"


def missed(found: dict) -> list[str]:
    """Return the aims that were not reached."""
    million = found["queries"]
    measured = {
        "import": found["import"]["saereg"]["seconds"],
        "cached": found["cached"]["saereg"]["seconds"],
        **{name: seconds for name, seconds in found["process"].items() if name in AIMS},
        **{name: one["median"] for name, one in million["saereg"]["work"].items() if name in AIMS},
        "MB": million["MB"] * 1e6 / million["rows"],
    }
    return [f"{name}: {value:.3f}, aim {AIMS[name]:g}" for name, value in measured.items() if value > AIMS[name]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100,000 artifacts, one round")
    parser.add_argument("--rounds", type=int, default=5, help="new processes of each kind")
    parser.add_argument("--catalog", type=Path, help="big catalogue that is there, or is kept")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = small(scratch, 1 if options.quick else options.rounds)
        file = options.catalog or scratch / "big.sqlite"
        found["queries"] = big(file, QUICK_RELEASES if options.quick else RELEASES)
    found["missed"] = missed(found)
    if options.json:
        print(json.dumps(found))
        return
    print("\n".join(lines(found)))
    print(f"\nnot reached: {'; '.join(found['missed']) or 'nothing'}")


if __name__ == "__main__":
    main()
