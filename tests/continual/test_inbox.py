"""The inbox: what is seen of it, what is said of batches that others wrote, and batches that are added."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import Store
from k2model.artifacts.files import files_at
from k2model.continual import inbox as module
from k2model.continual.batches import Manifest, read_batch
from k2model.continual.entries import Arrival
from k2model.continual.fold import fold
from k2model.continual.inbox import BatchChanged, Inbox, InboxError
from k2model.continual.state import Standing, State
from k2model.recipe import load_recipe
from k2model.recipe.continual import ArrivalConfig, BatchKind, ContinualConfig
from k2model.recipe.schema import SourceFormat
from tests.continual.samples import kickoff

ROWS = [
    {"messages": [{"role": "user", "content": f"{n}+1"}, {"role": "assistant", "content": f"{n + 1}"}]}
    for n in range(9)
]
DATA = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
SAID = {"kind": "tuned", "domain": "chat", "licence": "cc0-1.0", "fields": {"text": "", "messages": "messages"}}
CONFIG = ContinualConfig("sft", base="mid_4")
RECIPE = replace(load_recipe("smoke"), continual=CONFIG)


def entry(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def said(**changed: Any) -> dict[str, Any]:
    whole = {**SAID, "files": [entry("data/a.jsonl", DATA)], **changed}
    return {name: value for name, value in whole.items() if value is not None}


def put(inbox: Inbox, name: str, manifest: dict[str, Any] | bytes | None, **files: bytes) -> None:
    for path, data in (files or {"a.jsonl": DATA}).items():
        inbox.files.write(f"{name}/data/{path}", data)
    if manifest is not None:
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        inbox.files.write(f"{name}/batch.json", data)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox.open(Store.open(tmp_path / "store"), RECIPE)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jsonl").write_bytes(DATA)
    return tmp_path / "mine"


def check_a_batch(inbox: Inbox, rows: Path) -> None:
    assert inbox.batches() == []
    more = {
        "covers": ["2026-11-01", "2026-11-30"],
        "verifier": "arithmetic",
        "improves": ["arithmetic/*"],
        "note": "hi",
    }
    added = inbox.add([rows / "a.jsonl"], "monday", **SAID, **more, format="jsonl", heldout=0.2)
    assert (added.name, added.kind, added.verifier, added.improves) == (
        "monday",
        BatchKind.TUNED,
        "arithmetic",
        ("arithmetic/*",),
    )
    assert added.covers == ("2026-11-01", "2026-11-30") and added.size == len(DATA)
    source = added.source
    assert (source.name, source.domain, source.heldout, source.format) == (
        "batch/monday",
        "chat",
        0.2,
        SourceFormat.JSONL,
    )
    assert source.location == f"{inbox.files.uri}/monday/data"
    assert inbox.batches() == [added] == [inbox.manifest("monday")]
    inbox.check(added)
    with pytest.raises(InboxError, match="there is a batch 'monday' in"):
        inbox.add([rows], "monday", **SAID)
    put(inbox, "open", None)
    assert inbox.look().unfinished == ("open",)
    with pytest.raises(InboxError, match="'open' is being written"):
        inbox.manifest("open")
    with pytest.raises(InboxError, match=r"no batch 'mondai' .*did you mean 'monday'"):
        inbox.manifest("mondai")
    inbox.files.write("monday/data/a.jsonl", DATA.replace(b"1", b"2", 1))
    with pytest.raises(BatchChanged, match=r"'data/a.jsonl' has sha256 .*, its manifest says"):
        inbox.check(added)
    assert rows.joinpath("a.jsonl").read_bytes() == DATA, "a file that is added stays where it was"


def test_a_batch_is_added_and_read(inbox: Inbox, rows: Path) -> None:
    check_a_batch(inbox, rows)


def test_on_s3(s3_uri: str, rows: Path) -> None:
    inbox = Inbox.open(Store.open(s3_uri), RECIPE)
    check_a_batch(inbox, rows)
    again = inbox.add([f"{inbox.files.uri}/monday/data"], "copy", **SAID)
    assert again.files[0].path == "data/a.jsonl"


def test_the_place_is_the_recipes(tmp_path: Path, rows: Path) -> None:
    recipe = replace(RECIPE, continual=replace(CONFIG, inbox=str(tmp_path / "elsewhere")))
    store = Store.open(tmp_path / "store")
    Inbox.open(store, recipe).add([rows], "one", **SAID)
    assert (tmp_path / "elsewhere" / "one" / "batch.json").is_file()


def test_what_is_read_of_a_batch_can_be_ingested(inbox: Inbox, rows: Path) -> None:
    from k2model.ingest import list_inputs

    added = inbox.add([rows], "monday", **SAID)
    assert [one.path for one in list_inputs(added.source)] == ["a.jsonl"], "the manifest is no data"


BROKEN = [
    (b"{", "batch.json: it is no JSON"),
    (b"\xff", "batch.json: it is not UTF-8"),
    (b"[]", "batch.json: the whole is no object"),
    (said(kidn="tuned"), "batch.json: 'kidn' is no field of a batch; did you mean 'kind'"),
    (said(location="/etc"), "batch.json: 'location' is no field of a batch"),
    (said(kind=None), "batch.json: 'kind' is missing"),
    (said(kind="sft"), "batch.json: 'kind' is \"sft\"; there are base, tuned"),
    (said(files=None), "batch.json: 'files' is missing"),
    (said(files=[]), "it is empty: it lists no files"),
    (said(files=[entry("data/a.jsonl", b"")]), "it is empty: all its files are"),
    (said(files=[entry("../a.jsonl", DATA)]), "'files[0]': the path '../a.jsonl' is not one of a file inside"),
    (said(files=[entry("/etc/passwd", DATA)]), "'files[0]': the path '/etc/passwd' is not one of a file inside"),
    (said(files=[entry("a.jsonl", DATA)]), "files: 'a.jsonl' does not lie in 'data/'"),
    (said(files=[entry("data/.a.jsonl", DATA)]), "files: 'data/.a.jsonl' is hidden"),
    (said(files=[entry("data/a.jsonl", DATA)] * 2), "files: 'data/a.jsonl' is listed twice"),
    (said(files=[entry("data/b.jsonl", DATA)]), "its file 'data/b.jsonl' is missing"),
    (said(files=[entry("data/a.jsonl", DATA + b"x")]), f"has {len(DATA)} bytes, the manifest says {len(DATA) + 1}"),
    (said(files=[{**entry("data/a.jsonl", DATA), "sha256": "ab"}]), "data/a.jsonl has the sha256 'ab', expected"),
    (said(files=[{**entry("data/a.jsonl", DATA), "size": 1.5}]), "'files[0].size' is 1.5, expected a whole number"),
    (said(domain=""), "batch.json.domain is empty; name what the documents are about"),
    (said(licence=""), "batch.json.licence is empty"),
    (said(heldout=2.0), "batch.json.heldout=2.0 must be a share"),
    (said(fields={"mesages": "x"}), "'fields.mesages' is no field; did you mean 'messages'"),
    (said(fields={"text": "text"}), "kind is 'tuned', which takes dialogues, and fields.messages names no column"),
    (said(format="csv"), "'format' is \"csv\"; there are auto"),
    (said(verifier="arithmetics"), "verifier is 'arithmetics', which is no task family; did you mean 'arithmetic'"),
    (said(covers=["2026-11-30", "2026-11-01"]), "covers is ['2026-11-30', '2026-11-01'], expected the first"),
    (said(covers=["2026-13-01", "2026-13-01"]), "covers is"),
    (said(domain="\ud800"), "batch.json: it has half of a surrogate pair"),
    (said(improves="loss/*"), "'improves' is \"loss/*\", expected a list"),
]  # fmt: skip


@pytest.mark.parametrize("manifest, told", BROKEN, ids=[told[:40] for _, told in BROKEN])
def test_a_broken_batch_is_refused_with_its_reason_and_stops_no_other(inbox: Inbox, manifest, told: str) -> None:
    put(inbox, "bad", manifest)
    put(inbox, "good", said())
    contents = inbox.look()
    assert [one.name for one in contents.batches] == ["good"]
    (broken,) = contents.broken
    assert told in broken.reason and len(broken.digest) == 64
    state = fold(State("smoke"), [Arrival(kickoff(1), broken.batch)])
    assert state.batches["bad"].standing is Standing.REFUSED and state.batches["bad"].reason == broken.reason


def test_more_that_is_wrong_with_a_batch(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    put(inbox, "extra", said(), **{"a.jsonl": DATA, "b.jsonl": DATA})
    put(inbox, "two words", said())
    put(inbox, "lifecycle", said())
    put(inbox, os.fsdecode(b"caf\xe9"), said())
    put(inbox, "huge", said(note="x" * 5000))
    for name, in_place in (("pipe", os.mkfifo), ("link", lambda place: place.symlink_to("/etc/passwd"))):
        put(inbox, name, said())
        place = Path(inbox.files.uri, name, "batch.json")
        place.unlink()
        in_place(place)
    monkeypatch.setattr(module, "MANIFEST_BYTES", 4000)
    reasons = {one.name: one.reason for one in inbox.look().broken}
    assert "'data/b.jsonl' lies in its folder and is not in its manifest (1 such)" in reasons["extra"]
    assert "a batch is named 'two words', expected letters" in reasons["two words"]
    assert "expected letters" in reasons["caf\\udce9"], "a name that is no text is written so that it is one"
    assert (
        "not 'lifecycle'" in reasons["lifecycle"]
        and "batch.json: it has more than 4.0 KB, which is the most that is read" in reasons["huge"]
    )
    assert "expected a file" in reasons["pipe"] and "expected a file" in reasons["link"]
    for config, text, told in (
        (replace(CONFIG, base=""), said(kind="base", fields=None), "the line continues no base phase"),
        (replace(CONFIG, arrival=ArrivalConfig(max_bytes=100)), said(), "at most 100 B are taken"),
    ):
        read = read_batch("one", json.dumps(text).encode(), "/inbox/one", config)
        assert not isinstance(read, Manifest) and told in read.reason
    assert read_batch("one", json.dumps(said(kind="base", fields=None)).encode(), "", CONFIG).kind is BatchKind.BASE


def test_content_is_of_the_data_alone(inbox: Inbox) -> None:
    put(inbox, "one", said())
    put(inbox, "two", said(files=[entry("data/z.jsonl", DATA)], note="the same"), **{"z.jsonl": DATA})
    put(inbox, "three", said(files=[entry("data/a.jsonl", DATA * 2)]), **{"a.jsonl": DATA * 2})
    one, three, two = inbox.batches()
    assert one.content == two.content != three.content and one.digest != two.digest


def test_what_is_new_is_what_the_ledger_does_not_know(inbox: Inbox) -> None:
    put(inbox, "bad", b"{")
    put(inbox, "good", said())
    bad, good = inbox.look().new(State("smoke"))
    accepted = replace(bad.batch, name="good", digest=good.digest, standing=Standing.WAITING)
    state = State("smoke", batches={"bad": bad.batch, "good": accepted})
    assert inbox.look().new(state) == []
    put(inbox, "bad", said())
    put(inbox, "good", said(note="changed"))
    assert [one.name for one in inbox.look().new(state)] == ["bad"], "mended; what was accepted stays as it was"


def test_a_change_since_it_was_read_is_seen(inbox: Inbox) -> None:
    put(inbox, "one", said())
    (found,) = inbox.batches()
    inbox.check(found)
    for path, data, told in (
        ("one/data/b.jsonl", b"x", "'data/b.jsonl' lies in its folder"),
        ("one/batch.json", b"{}", "batch.json was written again"),
    ):
        before = inbox.files.read(path) if inbox.files.exists(path) else None
        inbox.files.write(path, data)
        with pytest.raises(BatchChanged, match=told):
            inbox.check(found)
        inbox.files.remove(path) if before is None else inbox.files.write(path, before)
    file = Path(inbox.files.uri, "one", "data", "a.jsonl")
    file.rename(file.parents[3] / "outside")
    file.symlink_to(file.parents[3] / "outside")
    with pytest.raises(BatchChanged, match="is a link"):
        inbox.check(found)
    file.unlink()
    with pytest.raises(BatchChanged, match=r"'data/a.jsonl' is missing"):
        inbox.check(found)


def test_adding_names_what_would_be_refused_and_copies_nothing(inbox: Inbox, rows: Path) -> None:
    with pytest.raises(InboxError, match="'one' would be refused: verifier is 'x'"):
        inbox.add([rows], "one", **SAID, verifier="x")
    with pytest.raises(InboxError, match=r"'../one' would be refused: a batch is named"):
        inbox.add([rows], "../one", **SAID)
    with pytest.raises(InboxError, match=r"two of the files would be 'data/a.jsonl'"):
        inbox.add([rows, rows / "a.jsonl"], "one", **SAID)
    assert inbox.look() == module.Contents((), (), ()) and not Path(inbox.files.uri).exists()
    put(inbox, "one", None, **{"other.jsonl": b"x"})
    with pytest.raises(InboxError, match=r"holds other files \(data/other.jsonl\)"):
        inbox.add([rows], "one", **SAID)


def test_a_batch_without_a_name_gets_the_one_of_its_content(inbox: Inbox, rows: Path) -> None:
    added = inbox.add([rows], **SAID)
    assert added.name == f"chat-{added.content[:12]}"
    with pytest.raises(InboxError, match="there is a batch"):
        inbox.add([rows / "a.jsonl"], **SAID)


def test_a_killed_add_is_unseen_and_can_be_repeated(inbox: Inbox, rows: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from k2model.artifacts import Store
        from k2model.artifacts.files import LocalFiles
        from k2model.continual.inbox import Inbox
        from tests.continual.test_inbox import RECIPE, SAID
        LocalFiles.create = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        Inbox.open(Store.open(sys.argv[1]), RECIPE).add([sys.argv[2]], "monday", **SAID)
    """
    root = Path(__file__).parents[2]
    store = Path(inbox.files.uri).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(store), str(rows)],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert done.returncode == -9 and inbox.look().unfinished == ("monday",)
    assert inbox.batches() == []
    added = inbox.add([rows], "monday", **SAID)
    inbox.check(added)
    assert inbox.batches() == [added] and inbox.look().unfinished == ()


def test_files_are_added_in_pieces(inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "deep" / "down" / "a.jsonl").write_bytes(DATA)
    (tmp_path / "deep" / "b.jsonl").write_bytes(DATA * 2)
    added = inbox.add([tmp_path / "deep"], "one", **SAID)
    assert [(one.path, one.size) for one in added.files] == [
        ("data/b.jsonl", 2 * len(DATA)),
        ("data/down/a.jsonl", len(DATA)),
    ]
    inbox.check(added)
    assert [*files_at(f"{inbox.files.uri}/one").sizes()] and not [*Path(inbox.files.uri).rglob(".partial-*")]
