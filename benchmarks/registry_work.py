"""What `benchmarks/registry.py` times: each function is one piece of work, done in a process of its own.

    python benchmarks/registry_work.py NAME [FILE]

prints one line of JSON: `seconds` of the work, imports included, and what came out.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

ROUNDS = 15
WANTED = {"model": "gemma-70m", "kind": "sae", "layer": 7}
MOST_L0, LEAST_EV = 64.0, 0.7
COLUMNS = ("key", "id", "kind", "model_name", "layer", "d_sae", "l0", "explained_variance")
"""What pandas gets of the big catalogue: the fields of the queries and what names an artifact."""


def import_saereg(file: Path) -> dict:
    """Read the registry of the installed SAELens and write the catalogue, as `saereg registry add sae_lens` does."""
    from saereg.registry.catalog.readers.saelens import snapshot
    from saereg.registry.catalog.store import changing
    from saereg.registry.catalog.writing import write

    rows = snapshot()
    with changing(file) as connection:
        write(connection, rows)
    return {"rows": sum(len(one.entries) for one in rows.releases)}


def import_saelens(file: Path) -> dict:
    """Let SAELens read its registry."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    imported = time.perf_counter()
    found = get_pretrained_saes_directory()
    return {"rows": sum(len(one.saes_map) for one in found.values()), "since": imported}


def import_pandas(file: Path) -> dict:
    """Read the same file with the C parser of yaml and make a flat table of it."""
    from importlib.resources import files

    import pandas
    import yaml

    imported = time.perf_counter()
    with files("sae_lens").joinpath("pretrained_saes.yaml").open() as stream:
        data = yaml.load(stream, Loader=yaml.CSafeLoader)
    several = ({"release": name, **one} for name, one in data.items() if isinstance(one, dict) and "saes" in one)
    table = pandas.json_normalize(list(several), "saes", ["release", "model"], meta_prefix="of_")
    return {"rows": len(table), "since": imported}


def cached_saereg(file: Path) -> dict:
    """Open the catalogue and ask one question."""
    from saereg.registry.catalog.selection import CatalogSelection

    found = CatalogSelection(file).find(l0__lt=64)
    return {"rows": len(found)}


def write_big(file: Path, releases: int) -> dict:
    """Write made-up releases of 10,000 artifacts each; making them is part of it, and timed for itself afterwards."""
    from registry_rows import fill, snapshots

    started = time.perf_counter()
    fill(file, releases, PER_RELEASE)
    written = time.perf_counter()
    several = min(releases, 10)
    for _ in snapshots(several, PER_RELEASE):
        pass
    making = (time.perf_counter() - written) * releases / several
    return {"rows": releases * PER_RELEASE, "seconds": written - started, "making": making}


PER_RELEASE = 10_000


def queries_saereg(file: Path) -> dict:
    """Ask through the public interface; every time the file is opened anew."""
    import saereg
    import saereg.api
    import saereg.registry.catalog.selection  # what is imported on use is not the query

    def filtered() -> int:
        found = saereg.find(catalog=file, l0__lt=MOST_L0, ev__gt=LEAST_EV, **WANTED)
        return sum(1 for _ in found)

    def frontier(**conditions: object) -> int:
        return len(saereg.find(catalog=file, **conditions).frontier("l0", "explained_variance"))

    return timed(
        {
            "filtered": filtered,
            "count": lambda: len(saereg.find(catalog=file, l0__lt=MOST_L0, ev__gt=LEAST_EV)),
            "frontier": frontier,
            "frontier of a model": lambda: frontier(model=WANTED["model"]),
        }
    )


def queries_sqlite(file: Path) -> dict:
    """Read every row of the table with plain SQLite and compare: what a file without any index costs."""
    import sqlite3

    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    good = f"l0 < {MOST_L0} AND explained_variance > {LEAST_EV}"
    of_model = f"+model_name = '{WANTED['model']}'"
    narrow = f"{of_model} AND kind = '{WANTED['kind']}' AND layer = {WANTED['layer']}"

    def select(where: str) -> list:
        return connection.execute(
            f"SELECT key, id, l0, explained_variance FROM artifact NOT INDEXED WHERE {where}"
        ).fetchall()

    def frontier(where: str) -> int:
        points = sorted(
            (l0, -ev) for _, _, l0, ev in select(f"{where} AND l0 NOT NULL AND explained_variance NOT NULL")
        )
        best, found = float("inf"), set()
        for l0, ev in points:
            if ev < best:
                best = ev
                found.add((l0, ev))
        return len(found)

    return timed(
        {
            "filtered": lambda: len(select(f"{good} AND {narrow}")),
            "count": lambda: len(select(good)),
            "frontier": lambda: frontier("1"),
            "frontier of a model": lambda: frontier(of_model),
        },
        rounds=3,
    )


def queries_pandas(file: Path) -> dict:
    """Hold the same rows in memory; reading them is timed for itself."""
    import sqlite3

    import pandas

    started = time.perf_counter()
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        table = pandas.read_sql_query(f"SELECT {', '.join(COLUMNS)} FROM artifact", connection)
    for name in ("kind", "model_name"):
        table[name] = table[name].astype("category")
    reading = time.perf_counter() - started

    def filtered() -> int:
        good = (table.l0 < MOST_L0) & (table.explained_variance > LEAST_EV) & (table.layer == WANTED["layer"])
        return len(
            table[good & (table.kind == WANTED["kind"]) & (table.model_name == WANTED["model"])].to_dict("records")
        )

    def frontier(rows: "pandas.DataFrame") -> int:
        points = (
            rows[["l0", "explained_variance"]]
            .dropna()
            .sort_values(["l0", "explained_variance"], ascending=[True, False])
        )
        best = points.explained_variance.cummax()
        return len(points[points.explained_variance > best.shift(fill_value=float("-inf"))])

    return timed(
        {
            "filtered": filtered,
            "count": lambda: int(((table.l0 < MOST_L0) & (table.explained_variance > LEAST_EV)).sum()),
            "frontier": lambda: frontier(table),
            "frontier of a model": lambda: frontier(table[table.model_name == WANTED["model"]]),
        }
    ) | {"reading": reading, "megabytes": int(table.memory_usage(deep=True).sum()) // 10**6}


def timed(work: dict[str, Callable[[], int]], rounds: int = ROUNDS) -> dict:
    """Return the first and the median seconds of each piece of work, and what it found."""
    found = {}
    for name, call in work.items():
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            rows = call()
            seconds.append(time.perf_counter() - started)
        found[name] = {"first": seconds[0], "median": statistics.median(seconds), "rows": rows}
    return {"work": found}


WORK = {
    "import saereg": import_saereg,
    "import SAELens": import_saelens,
    "import pandas": import_pandas,
    "cached saereg": cached_saereg,
    "queries saereg": queries_saereg,
    "queries sqlite": queries_sqlite,
    "queries pandas": queries_pandas,
    "write": write_big,
}


def main(name: str, file: str, *more: str) -> None:
    """Do one piece of work and print what it took."""
    started = time.perf_counter()
    found = WORK[name](Path(file), *map(int, more))
    ended = time.perf_counter()
    found["call"] = ended - found.pop("since", started)
    print(json.dumps({"seconds": ended - started} | found))


if __name__ == "__main__":
    main(*sys.argv[1:])
