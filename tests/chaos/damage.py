"""Damage in a store: of bytes in every kind of artifact, of manifests, records, the ledger and links, and what lies in
the place of files. Every check names it; after the repair and a run all digests are equal.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, FileEntry, Manifest
from k2model.artifacts.files import files_at
from tests.artifacts.samples import HOSTILE_PATHS
from tests.artifacts.test_outside import IN_PLACE, SHA
from tests.chaos.bench import Bench, Ended, Expected, Fault, Seen, Unexpected
from tests.chaos.subject import CORPUS, JOINED, SCORES, TOKENS
from tests.inspect.test_check import DAMAGES

Made = dict[str, ArtifactRef]


def made_in(bench: Bench, store: Path) -> Made:
    """References to the line in a copy of the store."""
    found = bench.line(store)
    return {name: ArtifactRef(**{**ref, "uri": f"{store}/{ref['kind']}/{ref['identity'][:16]}"})
            for name, ref in found.made.items()}  # fmt: skip


def mended(bench: Bench, store: Path, checks: list[Ended], words: tuple[str, ...] = ()) -> Seen:
    """What a person does about it: repair, and the same run again."""
    bench.run("k2", "check", "--repair", "--store", str(store))
    return Seen(checks, bench.line(store), bench.calm, words)


def of_the_table(name: str, bench: Bench) -> Seen:
    """One of the damages that `k2 check` is tested with."""
    store = bench.store()
    made = made_in(bench, store)
    damage, _ = DAMAGES[name]
    damage(files_at(store), made)
    return mended(bench, store, [bench.run("k2", "check", "--store", str(store))], ("_ledger|corpus",))


def bit(kind: str, bench: Bench) -> Seen:
    """One flipped bit, anywhere in an artifact's files; the size stays and the time of the file as well."""
    store = bench.store()
    folder = Path(made_in(bench, store)[kind].uri)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.json",))
    struck = bench.draw.choice(files)
    content, times = bytearray(struck.read_bytes()), struck.stat()
    place = bench.draw.randrange(len(content))
    content[place] ^= 1 << bench.draw.randrange(8)
    struck.unlink()  # a file that others link is theirs as well
    struck.write_bytes(content)
    os.utime(struck, ns=(times.st_atime_ns, times.st_mtime_ns))
    return mended(bench, store, [bench.run("k2", "check", "--store", str(store))], (kind,))


def used(bench: Bench) -> Seen:
    """A bit is flipped in what a step reads: the step ends, and makes nothing of it."""
    store = bench.store()
    made = made_in(bench, store)
    shutil.rmtree(made[SCORES].uri)
    struck = Path(made[TOKENS].uri, "shards", "c.bin")
    content = bytearray(struck.read_bytes())
    content[bench.draw.randrange(len(content))] ^= 1
    struck.write_bytes(content)
    met = bench.line(store)
    if Path(made[SCORES].uri).exists():
        raise Unexpected("it made scores of damaged tokens")
    return mended(bench, store, [met], (r"shards/c\.bin",))


def in_place(name: str, bench: Bench) -> Seen:
    """Something else in the place of a small file: each view ends in an error that names it."""
    store = bench.store()
    made = made_in(bench, store)
    file = bench.draw.choice(["manifest.json", "artifact.json"])
    path = Path(made[TOKENS].uri, file)
    path.unlink()
    IN_PLACE[name](path)
    checks = [bench.line(store)] if file == "manifest.json" else []
    checks.append(bench.run("k2", "check", "--store", str(store)))
    return mended(bench, store, checks, (file,))


def hostile_paths(bench: Bench) -> Seen:
    """Manifests whose paths lead out of their artifact: nothing of them is followed, on a fetch either."""
    store = bench.store()
    made = made_in(bench, store)
    manifest = Path(made[TOKENS].uri, "manifest.json")
    good, checks = manifest.read_text(), []
    shutil.rmtree(made[SCORES].uri)
    entry = '"path": "shard.bin"'
    assert entry in good, "the manifest is written otherwise"
    for path in bench.draw.sample([one for one in HOSTILE_PATHS if "\ud800" not in one], 4):
        import json

        manifest.write_text(good.replace(entry, f'"path": {json.dumps(path)}'))
        checks.append(bench.line(store))
    outside = [path for path in (bench.folder / "x", Path("/etc/x"), Path(f"{made[TOKENS].uri}/../x")) if path.exists()]
    if outside:
        raise Unexpected(f"{outside} was written")
    return mended(bench, store, checks, ("manifest",))


def a_huge_manifest(bench: Bench) -> Seen:
    """100 MB of entries."""
    store = bench.store()
    made = made_in(bench, store)
    entry = FileEntry("train/00000.txt", 1, SHA).to_json()
    one = str(entry).replace("'", '"').encode()
    Path(made[TOKENS].uri, "manifest.json").write_bytes(b'{"files": [' + b", ".join([one] * 900_000) + b"]}")
    checks = [bench.line(store), bench.run("k2", "check", "--store", str(store))]
    return mended(bench, store, checks, ("manifest",))


def a_linked_folder(bench: Bench) -> Seen:
    """A folder of an artifact is a link to one with another file in it."""
    store = bench.store()
    place = Path(made_in(bench, store)[TOKENS].uri, "shards")
    shutil.move(place, bench.folder / "elsewhere")
    place.symlink_to(bench.folder / "elsewhere")
    (bench.folder / "elsewhere" / "more.bin").write_bytes(b"x")
    shutil.rmtree(store / "scores")
    return mended(bench, store, [bench.line(store), bench.run("k2", "check", "--store", str(store))], ("shards",))


def another_store(bench: Bench) -> Seen:
    """The manifest of another artifact, which is whole by itself."""
    store = bench.store()
    made = made_in(bench, store)
    root = files_at(store)
    manifest = Manifest((FileEntry.of("shard.bin", b"another"),))
    shutil.rmtree(made[TOKENS].uri)
    root.write(f"{made[TOKENS].name}/shard.bin", b"another")
    root.write(f"{made[TOKENS].name}/manifest.json", manifest.to_json())
    return mended(bench, store, [bench.run("k2", "check", "--store", str(store))], ("tokens",))


def forged_lease(content: Callable[[], bytes], bench: Bench) -> Seen:
    """A file among the leases that no process of ours wrote."""
    store = bench.store()
    made = made_in(bench, store)
    shutil.rmtree(made[JOINED].uri)
    folder = store / "_leases" / made[JOINED].name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "00000001.json").write_bytes(content())
    met = bench.line(store)
    shutil.rmtree(folder)
    return Seen([met], bench.line(store), bench.calm, ("lease|making",))


def lease_of(**changes: Any) -> bytes:
    import json
    import time

    holder = {"host": "elsewhere", "machine": "another", "pid": 1, "started": "1", "token": "x",
              "heartbeat": time.time(), "released": False}  # fmt: skip
    return json.dumps(holder | changes).encode()


FORGED: dict[str, Callable[[], bytes]] = {
    "without fields": lambda: b"{}",
    "no JSON": lambda: b"\xff",
    "of a process that is dead": partial(lease_of, pid=2**22, heartbeat=0.0),
    "infinitely new": lambda: lease_of(heartbeat=0).replace(b": 0,", b": 1e999,"),
    "of 1970": partial(lease_of, heartbeat=0.0),
}

FAULTS = [
    *(
        Fault(f"bit/{kind}", Expected.ERROR, partial(bit, kind)) for kind in (CORPUS, TOKENS, JOINED, SCORES)
    ),
    Fault("bit/what a step reads", Expected.ERROR, used),
    *(
        Fault(f"damage/{name}", Expected.ERROR, partial(of_the_table, name), fast=number % 2 == 0)
        for number, name in enumerate(DAMAGES)
    ),
    *(Fault(f"in place of a file/{name}", Expected.ERROR, partial(in_place, name)) for name in IN_PLACE),
    Fault("hostile/paths of a manifest", Expected.ERROR, hostile_paths),
    Fault("hostile/a manifest of 100 MB", Expected.ERROR, a_huge_manifest),
    Fault("hostile/a linked folder", Expected.ERROR, a_linked_folder),
    Fault("hostile/an artifact that is another", Expected.ERROR, another_store),
    *(Fault(f"lease/{name}", Expected.EITHER, partial(forged_lease, content)) for name, content in FORGED.items()),
]  # fmt: skip
