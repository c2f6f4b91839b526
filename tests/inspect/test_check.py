"""A store read whole: every kind of damage is named, costs what it costs, and is gone after the repair and a run. On a
local folder and a real S3 service."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2model.artifacts import ArtifactRef, FileEntry, Identity, Manifest, PartRecord, Step, Store, make
from k2model.artifacts.confirm import CHECKED
from k2model.artifacts.files import Files, LocalFiles, files_at
from k2model.artifacts.owner import owner_name
from k2model.cli.main import main
from k2model.errors import CorruptArtifact
from k2model.inspect import reader
from k2model.inspect.check import check
from k2model.inspect.inventory import take_inventory
from k2model.inspect.repair import DAMAGED, costs, repair
from tests.artifacts.samples import stored
from tests.continual.test_ledger import grown

CORPUS, TOKENS, JOINED = "corpus", "tokens", "joined_tokens"
CHECKPOINT = "checkpoints/step-0000100"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    return Store.open(tmp_path / "store" if request.param == "local" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    return Store.open(tmp_path / "store")


def write_corpus(folder: Path) -> dict[str, float]:
    (folder / "train").mkdir()
    (folder / "train/prose.txt").write_text("a long time ago\n" * 100)
    (folder / "attachments").mkdir()
    (folder / "attachments/timings.txt").write_text("0.1 s")
    return {"documents": 100}


def write_tokens(folder: Path) -> dict[str, float]:
    (folder / "shard.bin").write_bytes(bytes(range(256)) * 64)
    return {"tokens": 4096}


def write_counts(folder: Path) -> dict[str, float]:
    (folder / "counts.json").write_text("{}")
    return {}


def lifecycle(store: Store) -> dict[str, ArtifactRef]:
    """A corpus, tokens made from it, and what joins tokens by links."""
    corpus = make(store, Step(Identity(CORPUS, "1", {"seed": 0}), write_corpus))
    tokens = make(store, Step(Identity(TOKENS, "1", {}, {"corpus": corpus}), write_tokens))
    links = {"a/shard.bin": (tokens, "shard.bin")}
    joined = make(store, Step(Identity(JOINED, "1", {}, {"tokens": tokens}), write_counts, lambda: links))
    return {CORPUS: corpus, TOKENS: tokens, JOINED: joined}


def digests(made: dict[str, ArtifactRef]) -> dict[str, str]:
    return {name: ref.digest for name, ref in made.items()}


def found(store: Store) -> list[tuple[str, str]]:
    """Kind and artifact's step of each fault of a whole check."""
    return [(fault.kind, fault.artifact.split("/")[0]) for fault in check(store, fresh=True).faults]


def entry_of(ref: ArtifactRef) -> str:
    return f"_ledger/{ref.kind}/{ref.identity}.json"


def lies(ref: ArtifactRef, path: str) -> str:
    """Where the bytes of an artifact's file are, from the store's root on."""
    return f"{ref.name}/{stored(ref, path)}"


def flip(root: Files, path: str) -> None:
    content = bytearray(root.read(path))
    content[len(content) // 2] ^= 1
    root.write(path, bytes(content))


def edit(root: Files, path: str, change: Callable[[Any], Any]) -> None:
    content = json.loads(root.read(path))
    change(content)
    root.write(path, json.dumps(content).encode())


def listed(manifest: dict[str, Any]) -> list[Any]:
    """The entries of a manifest's files: of those at their own paths, or of a maker's."""
    return manifest["files"] or next(iter(manifest["made"].values()))


Damage = Callable[[Files, dict[str, ArtifactRef]], Any]

#: Name -> what is done to the store, and the faults that it leads to.
DAMAGES: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "attachment": (lambda root, a: flip(root, lies(a[CORPUS], "attachments/timings.txt")), [("bytes", CORPUS)]),
    "bit": (lambda root, a: flip(root, lies(a[CORPUS], "train/prose.txt")), [("bytes", CORPUS)]),
    "cut": (lambda root, a: root.write(lies(a[CORPUS], "train/prose.txt"), b"a"), [("bytes", CORPUS)]),
    "file gone": (lambda root, a: root.remove(lies(a[CORPUS], "train/prose.txt")), [("bytes", CORPUS)]),
    "added": (lambda root, a: root.write(f"{a[CORPUS].name}/train/more.txt", b"x"), [("unlisted", CORPUS)]),
    "manifest": (lambda root, a: root.write(f"{a[CORPUS].name}/manifest.json", b"{}"), [("manifest", CORPUS)]),
    "manifest's hash": (
        lambda root, a: edit(
            root, f"{a[CORPUS].name}/manifest.json", lambda m: listed(m)[-1].update(sha256="0" * 64)
        ),
        [("manifest", CORPUS)],
    ),
    "manifest gone": (lambda root, a: root.remove(f"{a[CORPUS].name}/manifest.json"), [("lost", CORPUS)]),
    "artifact gone": (lambda root, a: root.remove(a[CORPUS].name), [("lost", CORPUS)]),
    "record": (lambda root, a: root.write(f"{a[CORPUS].name}/artifact.json", b"[" * 9999), [("record", CORPUS)]),
    "record gone": (lambda root, a: root.remove(f"{a[CORPUS].name}/artifact.json"), [("record", CORPUS)]),
    "record's digest": (
        lambda root, a: edit(root, f"{a[CORPUS].name}/artifact.json", lambda r: r.update(digest="0" * 64)),
        [("record", CORPUS)],
    ),
    "record's host": (
        lambda root, a: edit(root, f"{a[CORPUS].name}/artifact.json", lambda r: r["provenance"].update(host="x")),
        [("disagreement", CORPUS)],
    ),
    "record's config": (
        lambda root, a: edit(root, f"{a[CORPUS].name}/artifact.json", lambda r: r["config"].update(seed=1)),
        [("disagreement", CORPUS)],
    ),
    "entry": (lambda root, a: flip(root, entry_of(a[CORPUS])), []),  # any of three kinds, looked at below
    "entry gone": (lambda root, a: root.remove(entry_of(a[CORPUS])), [("ledger", CORPUS)]),
    "entry's digest": (
        lambda root, a: edit(root, entry_of(a[CORPUS]), lambda r: r.update(digest="0" * 64)), [("ledger", CORPUS)],
    ),
    "stray entry": (lambda root, a: root.write("_ledger/corpus/notes.txt", b"x"), [("ledger", "_ledger")]),
    "stray at the top": (lambda root, a: root.write("_ledger/notes.txt", b"x"), [("ledger", "_ledger")]),
}  # fmt: skip


#: What differs on an object store is how things are read and moved: one damage of each repair is enough there.
ON_S3 = ("bit", "added", "manifest gone", "record gone", "entry's digest", "record's config")


@pytest.mark.parametrize(
    ("store", "name"), [("local", name) for name in DAMAGES] + [("s3", name) for name in ON_S3], indirect=["store"]
)
def test_damage_is_named_and_gone_after_the_repair_and_a_run(store: Store, name: str) -> None:
    made, root = lifecycle(store), files_at(store.uri)
    assert found(store) == []
    damage, faults = DAMAGES[name]
    before = {path: root.read(path) for path in root.sizes() if not path.startswith(("_leases", CHECKED))}
    damage(root, made)
    kept = {path: root.read(path) for path in root.sizes() if not path.startswith(("_leases", CHECKED))}
    assert kept != before
    checked = check(store)
    told = [(fault.kind, fault.artifact.split("/")[0]) for fault in checked.faults]
    assert told == faults or (name == "entry" and {artifact for _, artifact in told} == {CORPUS})
    moved = repair(checked)
    assert bool(moved) is (faults[:1] != [("lost", CORPUS)])
    there = {path: root.read(path) for path in root.sizes() if not path.startswith(("_leases", CHECKED))}
    contents = {*there.values()}
    assert all(content in contents for content in kept.values()), "nothing is removed, only moved"
    assert digests(lifecycle(store)) == digests(made)
    assert found(store) == []


def test_a_fault_tells_what_depends_on_it_and_what_makes_it_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyflyte", "run", "workflows/lifecycle.py", "full_lifecycle"])
    made, root = lifecycle(store), files_at(store.uri)
    flip(root, lies(made[CORPUS], "train/prose.txt"))
    (cost,) = costs(check(store))
    assert cost.artifact == made[CORPUS].name and cost.dependents == (made[TOKENS].name, made[JOINED].name)
    assert (
        "moves it aside; run again" in cost.remedy
        and "pyflyte run workflows/" in cost.command
        and cost.seconds is not None
    )
    assert f"K2_STORE={store.uri}" in cost.command


def test_a_damaged_file_that_others_link_counts_for_them_as_well(store: Store) -> None:
    made, root = lifecycle(store), files_at(store.uri)
    local = isinstance(root, LocalFiles)
    if local:  # in place, as a disk does it: the joined artifact has the same file
        with open(f"{made[TOKENS].uri}/shard.bin", "r+b") as file:
            file.write(b"\xff")
    else:
        flip(root, lies(made[TOKENS], "shard.bin"))
    checked = check(store)
    assert {fault.artifact for fault in checked.faults} == {made[TOKENS].name} | (
        {made[JOINED].name} if local else set()
    )
    assert made[JOINED].name in next(one for one in costs(checked) if one.artifact == made[TOKENS].name).dependents
    repair(checked)
    after = [(fault.kind, fault.artifact.split("/")[0]) for fault in check(store).faults]
    assert after == [("lost", JOINED), ("lost", TOKENS)] if local else [("source", JOINED), ("lost", TOKENS)]
    assert digests(lifecycle(store)) == digests(made)
    assert found(store) == []


def test_a_link_to_another_file_is_named(store: Store) -> None:
    made, root = lifecycle(store), files_at(store.uri)
    manifest = Manifest((FileEntry.of("shard.bin", b"another"),))
    root.write(f"{made[TOKENS].name}/manifest.json", manifest.to_json())
    root.write(lies(made[TOKENS], "shard.bin"), b"another")
    assert ("link", JOINED) in found(store)
    assert ("record", TOKENS) in found(store) and ("lineage", JOINED) in found(store)


def test_an_input_that_nothing_tells_of_is_named(store: Store) -> None:
    made, root = lifecycle(store), files_at(store.uri)
    root.remove(made[CORPUS].name)
    root.remove(entry_of(made[CORPUS]))
    (fault,) = check(store).faults
    assert (fault.kind, fault.artifact) == ("lineage", made[TOKENS].name)
    assert f"{made[CORPUS].name} with the digest {made[CORPUS].digest[:12]} is not here" in fault.what


def test_kept_checkpoints_and_parts_of_what_is_unfinished_are_read(store: Store) -> None:
    made, root = lifecycle(store), files_at(store.uri)
    for name in (made[CORPUS].name, "checkpoint/0123456789abcdef"):  # beside a finished artifact, and of one at work
        shard = FileEntry.of("rank-00000.safetensors", b"weights")
        root.write(f"{name}/{CHECKPOINT}/{shard.path}", b"weights")
        root.write(f"{name}/{CHECKPOINT}/manifest.json", Manifest((shard,)).to_json())
    unfinished, owner = "corpus/0123456789abcdef", owner_name()
    part = PartRecord("00000", (FileEntry.of("train/0.txt", b"part"),), {}, 1.0, owner)
    made_at = f"{unfinished}/_made/{owner}/train/0.txt"  # in a local store beside the artifacts, where no step looks
    file = made_at if store.uri.startswith("s3") else f"_parts/{made_at}"
    root.write(file, b"part")
    root.write(f"_parts/{unfinished}/records/00000.json", part.to_json())
    assert found(store) == []
    for name in (made[CORPUS].name, "checkpoint/0123456789abcdef"):
        flip(root, f"{name}/{CHECKPOINT}/rank-00000.safetensors")
    flip(root, file)
    checked = check(store)
    assert sorted(fault.kind for fault in checked.faults) == ["checkpoint", "checkpoint", "part"]
    assert checked.unfinished == ["checkpoint/0123456789abcdef", unfinished]
    repair(checked)
    assert found(store) == [] and root.exists(f"{made[CORPUS].name}/manifest.json")
    assert not root.exists(f"_parts/{unfinished}/records/00000.json")


def test_a_broken_chain_of_a_line_is_named_and_left_alone(local: Store) -> None:
    grown(local)
    root = files_at(local.uri)
    assert {fault.kind for fault in check(local).faults} == {"line"}, (
        "the artifacts that the samples name are not there"
    )
    flip(root, "_continual/laptop/ledger/00000003.json")
    (cost,) = costs(check(local))
    assert "00000003.json" in cost.faults[0].what + cost.faults[0].path or "00000004.json" in cost.faults[0].what
    assert cost.artifact == "_continual/laptop" and "bring it back from a copy" in cost.remedy and not cost.command
    assert repair(check(local)) == []


def test_an_interrupted_check_goes_on_where_it_was(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "WORTH_NOTING", 0)
    made = lifecycle(local)
    stop_at = 2

    def interrupt(progress: reader.Progress) -> None:
        if progress.artifacts > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(local, workers=1, tell=interrupt)
    again = check(local)
    assert again.faults == [] and again.progress.resumed > 0 and again.progress.artifacts == 1
    whole = check(local)
    assert whole.progress.resumed == 0 and whole.progress.artifacts == 3, "one that has ended is not gone on with"
    with pytest.raises(KeyboardInterrupt):
        check(local, workers=1, tell=interrupt)
    assert check(local, fresh=True).progress.resumed == 0
    with pytest.raises(KeyboardInterrupt):
        check(local, workers=1, tell=interrupt)
    for ref in made.values():  # what was read before and changed since is read again
        manifest = Path(ref.uri, "manifest.json")
        os.utime(manifest, (manifest.stat().st_mtime + 5,) * 2)
    assert check(local).progress.resumed == 0


def test_what_somebody_makes_just_now_is_left_alone(local: Store) -> None:
    identity = Identity(CORPUS, "1", {"seed": 7})
    with local.lease(identity):
        files_at(local.uri).write(f"{identity.name}/train/half.txt", b"x")
        assert check(local).skipped == [identity.name]


def test_links_and_pipes_in_place_of_files_are_named(local: Store) -> None:
    made = lifecycle(local)
    corpus, tokens = Path(made[CORPUS].uri), Path(made[TOKENS].uri)
    shutil.move(corpus / "train", corpus.parent / "elsewhere")
    (corpus / "train").symlink_to(corpus.parent / "elsewhere")
    (tokens / "more").symlink_to(corpus)
    (tokens / "shard.bin").unlink()
    os.mkfifo(tokens / "shard.bin")
    assert {("bytes", CORPUS), ("bytes", TOKENS), ("unlisted", TOKENS)} <= {*found(local)}


@pytest.mark.parametrize("step", [False, True])
def test_a_link_in_place_of_a_folder_is_named_and_moved_aside(step: bool, local: Store, tmp_path: Path) -> None:
    before = lifecycle(local)
    folder = Path(before[CORPUS].uri)
    place = folder.parent if step else folder
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert ("place", CORPUS) in found(local)
    assert "expected a folder of its own" in run(local).output
    repair(check(local, fresh=True))
    assert not place.is_symlink() and not place.exists() and (tmp_path / "elsewhere").exists()
    assert digests(lifecycle(local)) == digests(before) and not found(local)


def test_a_pipe_in_place_of_a_manifest_is_named_and_moved_aside(local: Store) -> None:
    manifest = Path(lifecycle(local)[CORPUS].uri, "manifest.json")
    manifest.unlink()
    os.mkfifo(manifest)
    assert ("manifest", CORPUS) in found(local)
    repair(check(local, fresh=True))
    assert not manifest.parent.exists()


def test_what_is_of_no_line_does_not_end_a_check(local: Store) -> None:
    grown(local)
    lost = {*found(local)}  # artifacts that the entries name
    stray = Path(local.uri, "_continual", "notes.txt")
    stray.write_text("x")
    assert {*found(local)} - lost == {("ledger", "_continual")}
    repair(check(local))
    assert not stray.exists() and {*found(local)} == lost


def test_nothing_is_moved_out_of_the_store(local: Store, tmp_path: Path) -> None:
    tokens = lies(lifecycle(local)[TOKENS], "shard.bin")
    flip(files_at(local.uri), tokens)
    (tmp_path / "outside").mkdir()
    Path(local.uri, DAMAGED).symlink_to(tmp_path / "outside")
    with pytest.raises(CorruptArtifact, match="_damaged is a link"):
        repair(check(local))
    assert Path(local.uri, tokens).exists() and not [*(tmp_path / "outside").iterdir()]


def run(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments, "--store", store.uri])


def test_the_command_ends_with_what_it_found(local: Store) -> None:
    made, root = lifecycle(local), files_at(local.uri)
    whole = run(local)
    assert (whole.exit_code, "all is whole" in whole.output) == (0, True)
    flip(root, lies(made[CORPUS], "train/prose.txt"))
    damaged = run(local)
    assert damaged.exit_code == 1
    for said in (f"{made[CORPUS].name}/train/prose.txt: has sha256", "2 made from it: tokens/", "1 fault in 1 place"):
        assert said in damaged.output
    told = json.loads(run(local, "--json").stdout)
    (fault,) = told["faults"]
    assert (fault["artifact"], fault["faults"][0]["kind"]) == (made[CORPUS].name, "bytes")
    assert run(local, TOKENS).exit_code == 0, "one that is whole"
    assert run(local, made[CORPUS].digest[:8]).exit_code == run(local, made[CORPUS].name).exit_code == 1
    assert run(local, "--all").exit_code == 1
    assert run(local, "corpse").exit_code == 1 and "no artifact matches 'corpse'" in run(local, "corpse").output
    assert run(local, "--all", TOKENS).exit_code == 2 and run(local, "--nonsense").exit_code == 2
    mended = run(local, "--repair")
    assert mended.exit_code == 1 and f"moved {made[CORPUS].name} to {DAMAGED}/0001/{made[CORPUS].name}" in mended.output
    account = json.loads(root.read(f"{DAMAGED}/0001/faults.json"))
    assert [one["path"] for one in account["moved"]] == [made[CORPUS].name]
    assert run(local).exit_code == 1 and run(local, "--without-lost").exit_code == 0
    lifecycle(local)
    assert run(local).exit_code == 0


def test_views_name_what_does_not_agree(local: Store) -> None:
    made, root = lifecycle(local), files_at(local.uri)
    root.remove(entry_of(made[CORPUS]))

    def view(*arguments: str) -> Result:
        result = CliRunner().invoke(main, [*arguments, "--store", local.uri])
        assert result.exit_code == 0, result.output
        return result

    missing = f"_ledger/{made[CORPUS].name}: the ledger entry of the artifact is missing"
    assert missing in view("status").output
    status = json.loads(view("status", "--json").stdout)
    assert [one["kind"] for one in status["faults"]] == ["ledger"]
    assert {row["artifact"]: row["state"] for row in status["artifacts"]}[made[CORPUS].name] == "damaged"
    rows = json.loads(view("lineage", JOINED, "--artifacts", "--json").stdout)["made_from"]
    assert [row["place"] for row in rows] == [made[name].name for name in (JOINED, TOKENS, CORPUS)]
    assert rows[-1]["wrong"] == [missing] and not rows[0]["wrong"]
    root.remove(made[CORPUS].name)
    rows = json.loads(view("lineage", JOINED, "--artifacts", "--json").stdout)["made_from"]
    assert rows[-1]["place"] == f"{CORPUS} {made[CORPUS].digest[:12]}"
    assert "nothing here tells of it" in rows[-1]["wrong"][0]


def test_an_inventory_of_a_whole_store_has_no_faults(store: Store) -> None:
    made = lifecycle(store)
    inventory = take_inventory(store)
    assert inventory.faults == [] and {*inventory.known} == {ref.name for ref in made.values()}
    assert inventory.dependents(made[CORPUS].name) == [made[TOKENS].name, made[JOINED].name]
