"""How a day's batches come into the inbox: good ones by `Inbox.add`, the others as somebody would who takes no care.

What is there already is left as it is, so a day may be delivered twice, and a killed delivery gone on with.
"""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from k2model.artifacts import FileEntry
from k2model.artifacts.files import Files
from k2model.continual.batches import BATCH_FILE, DATA
from k2model.continual.inbox import Inbox
from k2model.continual.month.days import HELDOUT, Delivery, Form
from k2model.continual.month.material import LICENCE, Row
from k2model.plain import canonical, to_plain
from k2model.recipe.continual import BatchKind

FILE = "rows.jsonl"
BROKEN_EVERY = 3  # lines


def deliver(inbox: Inbox, delivery: Delivery, scratch: Path) -> None:
    """Puts a batch into the inbox, in the state that it comes in. scratch: a folder for its files before that."""
    there = inbox.files.at(delivery.batch)
    if there.exists(BATCH_FILE):
        return
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / (f"{FILE}.gz" if delivery.form is Form.CUT else FILE)
    file.write_bytes(_bytes(delivery))
    if delivery.form is Form.WHOLE:
        inbox.add([file], delivery.batch, **_said(delivery))
        return
    place, data = f"{DATA}/{file.name}", file.read_bytes()
    there.put(file, place)
    if delivery.form is Form.BEGUN:
        return
    entry = FileEntry(place, len(data), hashlib.sha256(data).hexdigest())
    if delivery.form is Form.CHANGED:
        _changed(there, file, data, place)
    manifest = canonical({**_said(delivery), "files": to_plain([entry])})
    there.create(BATCH_FILE, manifest[: len(manifest) // 2] if delivery.form is Form.UNREADABLE else manifest)


def _said(delivery: Delivery) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": delivery.kind.value, "domain": delivery.domain, "licence": LICENCE, "heldout": HELDOUT,
    }  # fmt: skip
    if delivery.kind is BatchKind.TUNED:
        said["fields"] = {"messages": "messages", "effort": "effort", "key": "key"}
    return said | dict(delivery.said)


def _bytes(delivery: Delivery) -> bytes:
    """The file of a batch as it comes."""
    lines = [_line(row) for row in delivery.rows]
    if delivery.form is Form.BROKEN:
        lines = [line[: len(line) // 2] + "\n" if at % BROKEN_EVERY == 0 else line for at, line in enumerate(lines)]
    data = "".join(lines).encode()
    if delivery.form is not Form.CUT:
        return data
    packed = gzip.compress(data, mtime=0)
    return packed[: len(packed) * 2 // 3]


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _changed(there: Files, file: Path, data: bytes, place: str) -> None:
    """Puts other bytes of the same length in the place of a file: only its contents tell."""
    file.write_bytes(data.replace(b"user", b"User"))
    there.put(file, place)
