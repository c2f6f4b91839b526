"""A store read whole: every byte against its manifest, and all that its files say of each other.

What `take_inventory` finds without reading is found as well; then the bytes are read (`k2model.inspect.reader`), and
the chain of every line's ledger. What somebody is at work on is left alone.

A large artifact that was found whole is noted (`k2model.artifacts.confirm`), so a check that was interrupted goes on
where it was: the notes bear the name of the check, which lies beside them until a check of the whole store has ended.
"""

import json
import secrets
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from k2model.artifacts import Store
from k2model.artifacts.confirm import CHECKED, noted
from k2model.artifacts.files import Files, files_at
from k2model.artifacts.outside import read_typed
from k2model.continual.ledger import FOLDER, Ledger
from k2model.errors import ArtifactError, CorruptArtifact, K2Error
from k2model.inspect.inventory import Fault, Known, first_sentence, take_inventory
from k2model.inspect.reader import Checked, Progress, Reader

UNFINISHED = f"{CHECKED}/unfinished.json"  # the name of a check of the whole store that has not ended


def check(
    store: Store,
    wanted: Collection[str] | None = None,
    workers: int = 4,
    fresh: bool = False,
    lost: bool = True,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Checked:
    """Reads the artifacts called `wanted` (names), or all of the store and the ledgers of its lines.

    workers: threads that read. fresh: begin anew where an earlier check was interrupted. lost: whether an artifact that
    was made here and is not here counts as a fault. tell: called as it goes on, twice a second and for each artifact.

    Raises ArtifactError where the store cannot be read, which says nothing of what is in it.
    """
    inventory = take_inventory(store)
    known = [one for name, one in inventory.known.items() if wanted is None or name in wanted]
    found = Checked(inventory, Progress(sum(one.bytes for one in known if one.finished)))
    root = files_at(store.uri)
    run = _name_of_check(root, fresh) if wanted is None else ""
    with ThreadPoolExecutor(workers) as pool:
        reader = Reader(root, found, pool, tell)
        try:
            for one in known:
                _check_artifact(store, reader, one, run)
            reader.finish()
        except BaseException:
            reader.stop()
            raise
    if lost:
        for one in (inventory.known[name] for name in (*found.gone, *found.unfinished)):
            if one.entry:
                what = "was made here, as this entry says, and is not here any more"
                found.faults.append(Fault(one.name, "lost", one.entry_path, what))
    if wanted is None:
        found.faults += [*inventory.stray, *_of_lines(store)]
        with suppress(ArtifactError):
            root.remove(UNFINISHED)
    found.faults.sort(key=lambda fault: (fault.artifact, fault.path))
    return found


def _name_of_check(root: Files, fresh: bool) -> str:
    """That of the check which was interrupted, else a new one."""
    if not fresh:
        with suppress(FileNotFoundError, CorruptArtifact, KeyError):  # of what is no note nothing is known
            return read_typed(dict[str, str], root, UNFINISHED, "a note of a check", "")["check"]
    name = secrets.token_hex(8)
    with suppress(ArtifactError):  # a store that is not written to is read all the same
        root.write(UNFINISHED, json.dumps({"check": name}).encode())
    return name


def _check_artifact(store: Store, reader: Reader, one: Known, run: str) -> None:
    found = reader.found
    quick = [fault for fault in one.faults if fault.kind != "changed"]  # whose bytes are compared below
    found.faults += quick
    if one.finished and one.digest:
        youngest = max((stamp.modified for stamp in one.files.values()), default=0.0)
        if run and not quick and noted(reader.root, one.name, one.digest, check=run) >= youngest:
            found.progress.resumed += one.bytes
            reader.links_of(one)
            return
        reader.read_artifact(one, run, youngest)
    elif not one.finished:
        if store.is_being_made(one.name):
            found.skipped.append(one.name)
        elif one.files or one.parts:
            found.unfinished.append(one.name)
            reader.read_unfinished(one)
        elif one.entry and not quick:
            found.gone.append(one.name)


def _of_lines(store: Store) -> Iterator[Fault]:
    """Faults of the ledgers of lines: chains that are broken, and artifacts they name that are not what they say."""
    paths = files_at(store.uri).sizes(FOLDER)
    for path in sorted(path for path in paths if path.count("/") < 2):
        yield Fault(FOLDER, "ledger", path, f"is no file of a line: expected {FOLDER}/<line>/ledger/00000001.json")
    for line in sorted({path.split("/")[1] for path in paths if path.count("/") > 1}):
        path = f"{FOLDER}/{line}"
        try:
            verified = Ledger.open(store, line).verify()
        except ArtifactError:
            raise
        except K2Error as error:
            yield Fault(path, "line", path, str(error).removeprefix(f"{store.uri}/"))
            continue
        for lost in verified.lost:
            yield Fault(
                path, "line", path, f"the ledger names an artifact that is not there: {first_sentence(Exception(lost))}"
            )
