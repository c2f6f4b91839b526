"""How fast a core reads sources: each format from file to documents, and what parses JSON lines.

    python -m benchmarks.sources [--megabytes 200] [--rounds 3]

The text is Python source found on this machine, cut at random. Rates are megabytes of text a second of processor time,
all threads counted, so that another process on the machine does not show. `read` is the reader alone, `documents` adds
ids, split and spans, `written` the Parquet files with zstd.
"""

import argparse
import json
import random
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from k2model.ingest import ingest_part, list_inputs, split_inputs
from k2model.ingest.assemble import assemble
from k2model.ingest.columnar import read_columnar
from k2model.ingest.jsonl import read_jsonl
from k2model.ingest.storage import open_source
from k2model.recipe.schema import FieldMapping, SourceConfig

FIELDS = FieldMapping(licence="meta.licence", origin="url", language="meta.language")
NAMES = ("a.jsonl", "a.jsonl.zst", "a.jsonl.gz", "a.parquet")
SCHEMA = pa.schema(
    {"text": pa.string(), "url": pa.string(), "meta": pa.struct({"licence": pa.string(), "language": pa.string()})}
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(", ".join(f"{name} {version(name)}" for name in ("pyarrow", "orjson")))
    with tempfile.TemporaryDirectory() as folder:
        size = make_files(Path(folder), arguments.megabytes * 1_000_000)
        print(f"{'MB of text a core-second':26} {'read':>8} {'documents':>10} {'written':>8}")
        for name in NAMES:
            rates = [size / 1e6 / seconds for seconds in stages(Path(folder), name, arguments.rounds)]
            print(f"{name:26} {rates[0]:8.0f} {rates[1]:10.0f} {rates[2]:8.0f}")
        parse(Path(folder, "a.jsonl").read_bytes(), arguments.rounds)


def stages(folder: Path, name: str, rounds: int) -> list[float]:
    """Median processor seconds of reading, of making documents, and of the whole part."""
    source = SourceConfig("x", location=str(folder / name), fields=FIELDS, domain="code", licence="unknown")
    (part,) = split_inputs(source, list_inputs(source), 10**12)
    files, (piece,) = open_source(source.location), part.slices
    read = read_columnar if name.endswith("parquet") else read_jsonl
    work: list[Callable[[], object]] = [
        lambda: [None for _ in read(source, files, piece)],
        lambda: [None for batch in read(source, files, piece) if assemble(source, batch) is None],
        lambda: ingest_part(source, part, folder / "out"),
    ]
    times = [[busy(each) for each in work] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def parse(content: bytes, rounds: int) -> None:
    """Lines parsed one by one, as the reader does it, beside pyarrow's block reader told the same columns."""
    content = content[: content.rfind(b"\n", 0, 64_000_000) + 1]
    options = pa.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
    blocks = pa.json.ReadOptions(use_threads=False, block_size=4_000_000)

    def lines() -> None:
        rows = [orjson.loads(line) for line in content.split(b"\n") if line]
        pa.array([row["text"] for row in rows], pa.string())
        for name in ("licence", "language"):
            pa.array([row["meta"][name] for row in rows], pa.string())
        pa.array([row["url"] for row in rows], pa.string())

    def columns() -> None:
        pa.json.read_json(pa.BufferReader(content), read_options=blocks, parse_options=options)

    pairs = [(busy(lines), busy(columns)) for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    rates = [len(content) / 1e6 / seconds for seconds in (ours, theirs)]
    print(f"JSON lines to columns: one by one {rates[0]:.0f} MB/s, pyarrow.json {rates[1]:.0f}, ratio {ratio:.2f}")


def busy(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def make_files(folder: Path, size: int) -> int:
    """One file of each format, of equal rows; returns the bytes of their text."""
    rng, rows, made = random.Random(0), [], 0
    texts = (path.read_text(errors="replace") for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")))
    for text in texts:
        start = 0
        while start < len(text) and made < size:
            cut = text[start : start + rng.randint(200, 8_000)]
            start += len(cut)
            made += len(cut.encode())
            url = f"https://example.org/{len(rows)}"
            rows.append({"text": cut, "url": url, "meta": {"licence": "MIT", "language": "en", "score": rng.random()}})
    content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    (folder / "a.jsonl").write_bytes(content)
    for name, kind in (("a.jsonl.zst", "zstd"), ("a.jsonl.gz", "gzip")):
        (folder / name).write_bytes(pa.Codec(kind).compress(content, asbytes=True))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=8_192, compression="zstd")
    return made


if __name__ == "__main__":
    main()
