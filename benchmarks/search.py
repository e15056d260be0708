"""Search over millions of records beside SQLite FTS5 and DuckDB, on one core, in one run.

Reproduce: `pip install '.[benchmark]'`, then `python benchmarks/search.py --work FOLDER`; the
records and what was built of them stay in FOLDER for the next run. 3,000,000 records want 25 GB.

The records are those that ship and variants of them: another owner and name, a word that no other
record has, other figures; a variant is never the publisher's default weights. tlhub's side is
`Catalog.search` as the command calls it. The two others hold the same words, facets, numbers and
JSON, and answer with the total, the same page of 20 decoded records in the same order, and counts
of the four facets where they are asked for. Where they mean something else:

- FTS5 ranks words by bm25 (DuckDB by what tlhub does: name before text, times how well known).
- DuckDB has no text index without an extension from its own servers: it scans for words.
- Both take a typo to the likest word of a table of words; FTS5 only among those that begin with
  the same two letters, by a distance in Python, since SQLite has none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from catalog import document, snapshot
from catalog.record import ModelRecord, decode, encode
from catalog.search import Catalog

PAGE = 20
LONG_S = 30.0  # after which a shape is asked no more
FACETS = ("task", "framework", "source", "license")
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


@dataclass(frozen=True)
class Query:
    """One query: words (each may be the start of one), equal fields, an upper bound, an order."""

    words: tuple[str, ...] = ()
    equal: tuple[tuple[str, str], ...] = ()
    params_below: int | None = None
    sort: str | None = None
    offset: int = 0
    facets: bool = False
    typo: bool = False

    @property
    def limit(self) -> int:
        """Records on the page; with facets none, as `tlhub search --facets` shows none."""
        return 0 if self.facets else PAGE


def shapes(records: int) -> dict[str, list[Query]]:
    """The eight shapes, each asked in several words."""
    rare = [made_up(records * part // 7) for part in range(1, 6)]
    half = ["safetensors", "image", "imagenet", "transformer"]
    cls, det = ("task", "image-classification"), ("task", "object-detection")
    return {
        "rare word": [Query((word,)) for word in rare],
        "word in half the rows": [Query((word,)) for word in half],
        "two words, two facets, sort": [
            Query(("resnet", "imagenet"), (cls, ("framework", "timm")), sort="params"),
            Query(("vit", "safetensors"), (cls, ("license", "apache-2.0")), sort="top1"),
            Query(("coco", "fpn"), (det, ("framework", "mmdet")), sort="params"),
        ],
        "facet counts, no text": [
            Query(facets=True),
            Query(params_below=100_000_000, facets=True),
            Query((), (("license", "apache-2.0"),), facets=True),
        ],
        "typo": [Query((word,), typo=True) for word in ("efficentnet", "moblienet", "segfromer")],
        "prefix": [Query((word,)) for word in ("effic", "mobil", "segf", "bag", "trans")],
        "plain sort": [Query(sort="params"), Query(sort="top1")],
        "page at offset 10,000": [
            Query(("safetensors",), sort="top1", offset=10_000),
            Query(("resnet",), offset=10_000),
            Query(sort="params", offset=10_000),
        ],
    }


def made_up(number: int) -> str:
    """A word for a number, of syllables: `bagoke`."""
    said = ""
    while True:
        number, digit = divmod(number, len(SYLLABLES))
        said += SYLLABLES[digit]
        if not number:
            return said + "q"  # no other word ends so


def records(count: int) -> Iterator[ModelRecord]:
    """The shipped records and variants of them, always the same."""
    rng = random.Random(0)
    real = list(itertools.islice(snapshot.read(), count))
    yield from real
    for number in range(count - len(real)):
        like = rng.choice(real)
        owner = made_up(int(rng.paretovariate(0.6)) % 200_000)
        base = (like.architecture or like.uid.partition("/")[2]).replace("/", "-")
        purpose = rng.choice(["finetuned", "v2", "ft-" + made_up(rng.randrange(20_000)), "base"])
        name = f"{base}-{purpose}-{made_up(number)}"
        scale = rng.lognormvariate(0, 0.3)
        tags = [tag for tag in like.tags if tag != "default"]
        tags += ["safetensors"] if rng.random() < 0.5 else []
        yield msgspec.structs.replace(
            like,
            uid=f"hf/{owner}/{name}",
            also=(),
            tags=tuple(tags),
            hf_hub_id=f"{owner}/{name}",
            params=like.params and max(int(like.params * scale), 1),
            evals=tuple(
                msgspec.structs.replace(item, value=round(item.value * rng.uniform(0.9, 1.0), 3))
                for item in like.evals
            ),
        )


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """What the other engines hold of each record."""
    for number, record in enumerate(snapshot.read(path)):
        words = document.words_of(record)
        license_ = record.license.spdx if record.license else None
        yield {
            "id": number,
            "uid": record.uid,
            "name": " " + " ".join(words.name),
            "word": " " + " ".join(words.all),
            "task": record.task,
            "framework": record.framework and record.framework.lower(),
            "source": record.source,
            "license": license_ and license_.lower(),
            "params": record.params,
            "top1": record.top1,
            "prior": document.prior(record),
            "record": encode(record).decode(),
        }


Answer = tuple[int, list[ModelRecord], dict[str, dict[str, int]]]


class Tlhub:
    """The product: `Catalog.search`."""

    def __init__(self, work: Path, data: Path) -> None:
        self.path = work / "tlhub"
        self.catalog = Catalog.open(self.path, data)

    def ask(self, query: Query) -> Answer:
        """Total, page, and facet counts if they are asked for."""
        said = [*query.words, *(f"{field}:{value}" for field, value in query.equal)]
        if query.params_below:
            said.append(f"params:<{query.params_below}")
        found = self.catalog.search(
            " ".join(said), sort=query.sort, limit=query.limit, offset=query.offset
        )
        return found.total, list(found.items), found.facets if query.facets else {}


class Sqlite:
    """FTS5 beside a table of what is filtered and sorted by, and one of the JSON."""

    def __init__(self, work: Path, data: Path) -> None:
        self.path = work / "sqlite.db"
        fresh = not self.path.exists()
        at = self.path.with_suffix(".building") if fresh else self.path
        if fresh:
            at.unlink(missing_ok=True)
        self.db = sqlite3.connect(at)
        if fresh:
            self._build(data)
            self.db.close()
            at.rename(self.path)
            self.db = sqlite3.connect(self.path)
        self.db.create_function("distance", 2, distance, deterministic=True)

    def _build(self, data: Path) -> None:
        self.db.executescript("""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;
            CREATE TABLE m (id INTEGER PRIMARY KEY, uid, task, framework, source, license,
                            params, top1, prior);
            CREATE TABLE r (id INTEGER PRIMARY KEY, record);
            CREATE VIRTUAL TABLE f USING fts5 (name, word, content = '');
            CREATE VIRTUAL TABLE v USING fts5vocab (f, 'row');
        """)
        for batch in batched(rows(data), 10_000):
            self.db.executemany(
                "INSERT INTO m VALUES (:id, :uid, :task, :framework, :source, :license, :params,"
                " :top1, :prior)",
                batch,
            )
            self.db.executemany("INSERT INTO r VALUES (:id, :record)", batch)
            self.db.executemany(
                "INSERT INTO f (rowid, name, word) VALUES (:id, :name, :word)", batch
            )
        self.db.executescript("""
            INSERT INTO f (f) VALUES ('optimize');
            CREATE INDEX by_params ON m (params IS NULL, params, uid);
            CREATE INDEX by_top1 ON m (top1 DESC, uid);
            CREATE INDEX by_prior ON m (prior DESC, uid);
            CREATE INDEX by_task ON m (task); CREATE INDEX by_framework ON m (framework);
            CREATE INDEX by_source ON m (source); CREATE INDEX by_license ON m (license);
            ANALYZE;
        """)
        self.db.commit()

    def ask(self, query: Query) -> Answer:
        """Total, page, and facet counts if they are asked for."""
        words = query.words
        if query.typo:
            words = tuple(self._respelt(word) for word in words)
        where = [f"m.{field} = :{field}" for field, _ in query.equal]
        where += ["params < :below"] if query.params_below else []
        order = {"params": "params IS NULL, params, uid", "top1": "top1 DESC, uid"}
        said = dict(query.equal) | {"below": query.params_below}
        tables, ranked = "m", "prior DESC, uid"
        if words:
            tables, ranked = "f JOIN m ON m.id = f.rowid", "bm25(f, 3.0, 1.0), uid"
            where.append("f MATCH :match")
            said["match"] = " AND ".join(f'"{word}"*' for word in words)
        those = f"FROM {tables} WHERE {' AND '.join(where) or 'true'}"
        alone = "FROM f WHERE f MATCH :match" if words and len(where) == 1 else those
        (total,) = self.db.execute(f"SELECT count(*) {alone}", said).fetchone()
        page = self.db.execute(
            f"SELECT m.id {those} ORDER BY {order[query.sort] if query.sort else ranked}"
            f" LIMIT {query.limit} OFFSET {query.offset}",
            said,
        ).fetchall()
        lines = [
            self.db.execute("SELECT record FROM r WHERE id = ?", row).fetchone() for row in page
        ]
        facets = {}
        for facet in FACETS if query.facets else ():
            counted = self.db.execute(f"SELECT {facet}, count(*) {those} GROUP BY {facet}", said)
            facets[facet] = {value: count for value, count in counted if value}
        return total, [decode(line) for (line,) in lines], facets

    def _respelt(self, word: str) -> str:
        """The commonest of the nearest words."""
        found = self.db.execute(
            "SELECT term FROM v WHERE term BETWEEN ? AND ? AND length(term) BETWEEN ? AND ?"
            " ORDER BY distance(term, ?), doc DESC LIMIT 1",
            (word[:2], word[:2] + "~", len(word) - 2, len(word) + 2, word),
        ).fetchone()
        return str(found[0])


class DuckDb:
    """One table of columns, and one of words for typos."""

    def __init__(self, work: Path, data: Path) -> None:
        import duckdb

        self.path = work / "duck.db"
        fresh = not self.path.exists()
        at = self.path.with_suffix(".building") if fresh else self.path
        if fresh:
            at.unlink(missing_ok=True)
        self.db = duckdb.connect(str(at))
        self.db.execute("SET threads = 1")
        if fresh:
            self._build(data, work / "rows.json")
            self.db.close()
            at.rename(self.path)
            self.db = duckdb.connect(str(self.path))
            self.db.execute("SET threads = 1")

    def _build(self, data: Path, chunk: Path) -> None:
        self.db.execute("""
            CREATE TABLE m (id INTEGER, uid VARCHAR, name VARCHAR, word VARCHAR, task VARCHAR,
                framework VARCHAR, source VARCHAR, license VARCHAR, params BIGINT, top1 DOUBLE,
                prior INTEGER, record VARCHAR)
        """)
        for batch in batched(rows(data), 100_000):
            with chunk.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in batch)
            self.db.execute(
                "INSERT INTO m BY NAME SELECT * FROM read_json(?, format = 'newline_delimited',"
                " columns = {id: 'INTEGER', uid: 'VARCHAR', name: 'VARCHAR', word: 'VARCHAR',"
                " task: 'VARCHAR', framework: 'VARCHAR', source: 'VARCHAR', license: 'VARCHAR',"
                " params: 'BIGINT', top1: 'DOUBLE', prior: 'INTEGER', record: 'VARCHAR'})",
                [str(chunk)],
            )
        chunk.unlink()
        self.db.execute("""
            CREATE TABLE v AS SELECT word, count(*) AS n FROM
                (SELECT unnest(string_split(trim(word), ' ')) AS word FROM m) GROUP BY word;
            CREATE INDEX by_id ON m (id);
            CHECKPOINT
        """)

    def ask(self, query: Query) -> Answer:
        """Total, page, and facet counts if they are asked for."""
        words = query.words
        if query.typo:
            words = tuple(self._respelt(word) for word in words)
        where = [f"contains(word, ' {word}')" for word in words]
        where += [f"{field} = '{value}'" for field, value in query.equal]
        where += [f"params < {query.params_below}"] if query.params_below else []
        those = f"FROM m WHERE {' AND '.join(where) or 'true'}"
        named = " + ".join(f"if(contains(name, ' {word}'), 3, 1)" for word in words) or "1"
        order = {"params": "params NULLS LAST", "top1": "top1 DESC NULLS LAST"}
        ranked = order[query.sort] if query.sort else f"({named}) * log2(2 + prior) DESC"
        ((total,),) = self.db.execute(f"SELECT count(*) {those}").fetchall()
        page = self.db.execute(
            f"SELECT id {those} ORDER BY {ranked}, uid LIMIT {query.limit} OFFSET {query.offset}"
        ).fetchall()
        ids = [number for (number,) in page]
        lines = dict(
            self.db.execute(
                f"SELECT id, record FROM m WHERE id IN ({','.join(map(str, ids)) or 'NULL'})"
            ).fetchall()
        )
        facets = {}
        for facet in FACETS if query.facets else ():
            counted = self.db.execute(f"SELECT {facet}, count(*) {those} GROUP BY {facet}")
            facets[facet] = {value: count for value, count in counted.fetchall() if value}
        return total, [decode(lines[number]) for number in ids], facets

    def _respelt(self, word: str) -> str:
        found = self.db.execute(
            "SELECT word FROM v WHERE length(word) BETWEEN ? AND ?"
            " ORDER BY damerau_levenshtein(word, ?), n DESC LIMIT 1",
            [len(word) - 2, len(word) + 2, word],
        ).fetchone()
        return str(found[0]) if found else word


ENGINES: dict[str, Callable[[Path, Path], Tlhub | Sqlite | DuckDb]] = {
    "tlhub": Tlhub,
    "FTS5": Sqlite,
    "DuckDB": DuckDb,
}


def distance(one: str, other: str) -> int:
    """How many letters are to be put in, taken out, changed or exchanged with the next."""
    before, last = [], list(range(len(other) + 1))
    for i, a in enumerate(one):
        row = [i + 1]
        for j, b in enumerate(other):
            cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a != b))
            if i and j and a == other[j - 1] and one[i - 1] == b:
                cost = min(cost, before[j - 1] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most ``size``."""
    while batch := list(itertools.islice(items, size)):
        yield batch


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def size_of(path: Path) -> int:
    """Bytes of a file or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def measure(name: str, work: Path, data: Path, count: int, rounds: int) -> dict[str, Any]:
    """Build an engine if it is not there, ask it everything, and say how long it took."""
    took = work / f"{name}.seconds"
    built = took.exists()
    began = time.perf_counter()
    engine = ENGINES[name](work, data)
    if not built:
        took.write_text(str(time.perf_counter() - began), encoding="ascii")
        return {}  # what was built stays in the memory of this process: another one asks
    answers: dict[str, Any] = {}
    anonymous = 0.0
    for shape, queries in shapes(count).items():
        totals = [engine.ask(query)[0] for query in queries]  # warms the page cache
        spent: list[float] = []
        worked: list[float] = []
        for query in itertools.islice(itertools.cycle(queries), rounds * len(queries)):
            began, at = time.perf_counter(), time.process_time()
            engine.ask(query)
            spent.append(time.perf_counter() - began)
            worked.append(time.process_time() - at)
            anonymous = max(anonymous, anonymous_mb())
            if sum(spent) > LONG_S and len(spent) >= 2 * len(queries):
                break
        answers[shape] = {
            "totals": totals,
            "samples": len(spent),
            "wall_ms": middle_and_worst(spent),
            "cpu_ms": middle_and_worst(worked),
        }
    return {
        "build_s": float(took.read_text(encoding="ascii")),
        "bytes_per_record": size_of(engine.path) / count,
        "anonymous_mb": anonymous,
        "shapes": answers,
    }


def middle_and_worst(seconds: list[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3


def main() -> None:
    """Make the records, build and ask every engine in a process of its own, print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=40, help="of every query")
    parser.add_argument("--work", type=Path, default=Path("build/search-benchmark"))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    work = given.work / str(given.records)
    data = work / "records.jsonl.xz"
    if given.engine:
        figures = measure(given.engine, work, data, given.records, given.rounds)
        print(json.dumps(figures))
        return
    work.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if not data.exists():
        write(data, given.records)
    results: dict[str, dict[str, Any]] = {}
    for name in given.engines.split(","):
        command = [sys.executable, __file__, "--engine", name, "--records", str(given.records)]
        command += ["--rounds", str(given.rounds), "--work", str(given.work)]
        while not results.get(name):  # the first only builds
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(done.stdout)
    report(results)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


def write(path: Path, count: int) -> None:
    """A snapshot of the records, compressed as fast as can be."""
    import lzma

    fresh = path.with_suffix(".writing")
    with lzma.open(fresh, "wb", preset=0) as stream:
        for record in records(count):
            stream.write(encode(record) + b"\n")
    fresh.rename(path)


def report(results: dict[str, dict[str, Any]]) -> None:
    """Two tables: what one waits, and of it what the processor works; an engine a column."""
    every = list(next(iter(results.values()))["shapes"])
    for clock, said in (("wall_ms", "waited"), ("cpu_ms", "worked")):
        print(f"{said + ', p50 / p99 in ms':<29}" + "".join(f"{n:>22}" for n in results), end="")
        print("  FTS5/tlhub")
        for shape in every:
            found = {name: figures["shapes"][shape][clock] for name, figures in results.items()}
            line = "".join(f"{p50:>12.1f} /{p99:>8.1f}" for p50, p99 in found.values())
            if {"tlhub", "FTS5"} <= set(found):
                line += f"{found['FTS5'][0] / found['tlhub'][0]:>11.1f}x"
            print(f"{shape:<29}{line}")
    for label, key in (
        ("built in s", "build_s"),
        ("bytes per record", "bytes_per_record"),
        ("most RssAnon in MB, asking", "anonymous_mb"),
    ):
        print(f"{label:<29}" + "".join(f"{figures[key]:>22,.0f}" for figures in results.values()))
    for shape in every:
        totals = {name: figures["shapes"][shape]["totals"] for name, figures in results.items()}
        if len({tuple(found) for found in totals.values()}) > 1:
            print(f"found by {shape}:", ", ".join(f"{n} {found}" for n, found in totals.items()))


if __name__ == "__main__":
    main()
