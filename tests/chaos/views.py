"""What is shown: text of documents that a terminal or a page would obey, and secrets in addresses."""

import json
from functools import partial
from pathlib import Path

from tests.chaos.bench import Bench, Ended, Expected, Fault, Seen, Unexpected

CANARY = "canary-5f3a"
HOSTILE = (
    "\x1b[2J\x1b]0;title\x07 [bold]markup[/bold] <script>alert(1)</script> "
    "\u202etxt.exe \x9b31m \u2028 ![x](http://x/y) =cmd()|x \r over"
)


def harmless(ended: Ended) -> None:
    """Raises Unexpected where a terminal would obey what was shown, or nothing was shown."""
    shown = ended.out + ended.err
    if ended.status != 0:
        raise Unexpected(f"exit status {ended.status}: {ended.said[:300]}")
    obeyed = sorted({f"U+{ord(one):04X}" for one in shown if ord(one) < 32 and one not in "\n\t"}
                    | {f"U+{ord(one):04X}" for one in shown if one in "\x7f\x9b\u202e\u2028"})  # fmt: skip
    if obeyed:
        raise Unexpected(f"a terminal gets {', '.join(obeyed)}")
    if "markup" in shown and "[bold]" not in shown:
        raise Unexpected("markup of a document was obeyed")


def shown(command: tuple[str, ...], bench: Bench) -> Seen:
    """A view of a file of rows with such texts."""
    rows = [{"text": f"{HOSTILE} {number} " + "words of a document " * 9, "source": HOSTILE} for number in range(3)]
    file = bench.folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_parquet(rows, bench.folder / "rows.parquet")
    arguments = [
        word.replace("FILE", str(file))
        .replace("TABLE", str(bench.folder / "rows.parquet"))
        .replace("OUT", str(bench.folder / "out"))
        for word in command
    ]
    harmless(bench.run("k2", *arguments))
    return Seen([], None, {}, outcome="shown as text")


def write_parquet(rows: list[dict[str, str]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def hostile_names(bench: Bench) -> Seen:
    """Files in a store whose names are such texts, in every view of it."""
    store = bench.store()
    folder = next((store / "tokens").iterdir())
    (folder / HOSTILE.replace("/", "")[:60]).write_text("x")
    (store / "_ledger" / "\x1b[31mred").write_text("{}")
    checked = bench.run("k2", "check", "--store", str(store))
    for view in (bench.run("k2", "status", "--store", str(store)), checked):
        harmless(Ended(0, view.out, view.err))
    bench.run("k2", "check", "--repair", "--store", str(store))
    return Seen([checked], bench.line(store), bench.calm, ("red|_ledger",))


def secret(address: str, bench: Bench) -> Seen:
    """An address with a password or a signature, where none may be: refused, and not repeated."""
    ended = bench.line(address)
    if CANARY in ended.out + ended.err or any(CANARY in path.name for path in Path(bench.folder).rglob("*")):
        raise Unexpected("the secret is in what it says or in what it made")
    return Seen([ended], None, {}, (r"\*\*\*|credentials",))


FAULTS = [
    Fault("text/k2 data show", Expected.EQUAL, partial(shown, ("data", "show", "TABLE"))),
    Fault("text/k2 data stats", Expected.EQUAL, partial(shown, ("data", "stats", "TABLE"))),
    Fault("text/k2 data ingest", Expected.EQUAL, partial(shown, ("data", "ingest", "FILE", "--out", "OUT"))),
    Fault("text/names of files in a store", Expected.ERROR, hostile_names),
    Fault("secret/key and password of a store", Expected.ERROR, partial(secret, f"s3://key:{CANARY}@bucket/store")),
    Fault("secret/with an @ in it", Expected.ERROR, partial(secret, f"s3://key:p@{CANARY}@bucket/store")),
    Fault("secret/a signed address", Expected.ERROR, partial(secret, f"s3://bucket/store?X-Amz-Signature={CANARY}")),
]
