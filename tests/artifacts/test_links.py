"""Artifacts that have files of others, joined without a byte being copied: on a local folder and a real S3 service."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import (
    ArtifactError,
    ArtifactRef,
    CorruptArtifact,
    FileEntry,
    Identity,
    Manifest,
    MissingArtifact,
    Step,
    Store,
    make,
    read_manifest,
    verify,
)
from k2model.artifacts.files import RemoteFiles, files_at
from k2model.artifacts.links import link_locally
from tests.artifacts.samples import HOSTILE_PATHS, PROSE, files_below, stored, write_corpus
from tests.artifacts.test_crashes import LOCAL_STEPS, die_at, run

OTHER = "another time\n" * 70
LINKED = ("train/prose.txt", "train/news.txt")
Linked = Mapping[str, tuple[ArtifactRef, str]]


def write_other(folder: Path) -> dict[str, float]:
    (folder / "train").mkdir()
    (folder / "train" / "news.txt").write_text(OTHER)
    return {}


def write_counts(folder: Path) -> dict[str, float]:
    (folder / "counts.json").write_text("{}")
    return {"sources": 2}


def sources(store: Store, identity: Identity) -> list[ArtifactRef]:
    other = Identity("corpus", "1", {"seed": 1})
    return [store.build(identity, write_corpus), store.build(other, write_other)]


def joined(refs: list[ArtifactRef]) -> Step:
    """Of the prose and the news, and an attachment."""
    paths = (("train/prose.txt", "attachments/timings.txt"), ("train/news.txt",))
    links = {path: (ref, path) for ref, own in zip(refs, paths, strict=True) for path in own}
    identity = Identity("joined", "1", {}, {f"corpus_{number}": ref for number, ref in enumerate(refs)})
    return Step(identity, write_counts, lambda: links)


def logged(monkeypatch: pytest.MonkeyPatch, operation: str) -> list[str]:
    """URIs of the remote files that the operation is of."""
    found: list[str] = []
    real = getattr(RemoteFiles, operation)

    def noting(files: RemoteFiles, *arguments: Any) -> Any:
        found.append(f"{files.uri}/{arguments[0 if operation == 'download' else 1]}")
        return real(files, *arguments)

    monkeypatch.setattr(RemoteFiles, operation, noting)
    return found


def test_a_joined_artifact_is_like_one_whose_files_were_copied(
    any_store: Store, identity: Identity, tmp_path: Path
) -> None:
    refs = sources(any_store, identity)
    made = make(any_store, joined(refs))
    entries = {entry.path: entry for entry in read_manifest(made.uri).files}
    assert entries["train/news.txt"].at == f"{refs[1].name}/train/news.txt" and entries["counts.json"].at == ""
    assert made == make(any_store, joined(refs)) == any_store.find(joined(refs).identity)

    def copied(folder: Path) -> dict[str, float]:
        write_counts(folder)
        (folder / "train").mkdir()
        (folder / "train/prose.txt").write_text(PROSE)
        (folder / "train/news.txt").write_text(OTHER)
        return {}

    assert Store.open(tmp_path / "copied").build(identity, copied).digest == made.digest
    folder = any_store.fetch(made)
    assert (folder / "train/news.txt").read_text() == OTHER and (folder / "train/prose.txt").read_text() == PROSE
    assert any_store.read(made, "train/news.txt").decode() == OTHER
    verify(made.uri, read_manifest(made.uri))
    files, _ = any_store.look_up(made)
    assert files.sizes() | {"artifact.json": 0, "manifest.json": 0} == {
        "artifact.json": 0, "manifest.json": 0, "attachments/timings.txt": 5, "counts.json": 2,
        "train/news.txt": len(OTHER), "train/prose.txt": len(PROSE),
    }  # fmt: skip
    assert files.sizes("train").keys() == {"train/news.txt", "train/prose.txt"}
    assert files.exists("train/news.txt") and not files.exists("train/verse.txt")
    assert files.read_range("train/news.txt", 8, 4) == files.at("train").read_range("news.txt", 8, 4) == b"time"
    with files.open("train/prose.txt") as file:
        assert file.read(6) == b"a long"
    assert files.modified("train/prose.txt") == files_at(refs[0].uri).modified(stored(refs[0], "train/prose.txt"))


def test_no_byte_of_a_linked_file_is_read_or_written(
    any_store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = sources(any_store, identity)
    put = logged(monkeypatch, "put")
    monkeypatch.setattr(RemoteFiles, "open", None)
    monkeypatch.setattr(RemoteFiles, "download", None)
    made = make(any_store, joined(refs))
    if any_store.uri.startswith("s3"):
        counts = stored(made, "counts.json")
        assert put == [f"{made.uri}/{counts}"]
        record = counts.replace("counts", "artifact")
        assert any_store.files_of(made.name).sizes().keys() == {"artifact.json", "manifest.json", counts, record}
    else:
        assert os.path.samefile(f"{made.uri}/train/news.txt", f"{refs[1].uri}/train/news.txt")
        assert files_below(made.uri) == [
            "artifact.json", "attachments/timings.txt", "counts.json", "manifest.json", "train/news.txt",
            "train/prose.txt",
        ]  # fmt: skip


def test_a_link_to_a_link_leads_to_the_bytes(any_store: Store, identity: Identity) -> None:
    refs = sources(any_store, identity)
    first = make(any_store, joined(refs))
    again = Step(Identity("again", "1", {}, {"first": first}), write_counts, lambda: {"a/b": (first, "train/news.txt")})
    made = make(any_store, again)
    entries = {entry.path: entry.at for entry in read_manifest(made.uri).files}
    assert entries == {"a/b": f"{refs[1].name}/train/news.txt", "counts.json": ""}
    any_store.files_of(first.name).remove("")
    assert any_store.read(made, "a/b").decode() == OTHER


def test_what_is_wrong_with_a_source_names_both(any_store: Store, identity: Identity, tmp_path: Path) -> None:
    refs = sources(any_store, identity)
    made = make(any_store, joined(refs))
    source, news = files_at(refs[1].uri), stored(refs[1], "train/news.txt")
    path = Path(refs[1].uri, "train/news.txt")
    both = rf"delete the folders {made.uri} and {refs[1].uri} and run again"
    shutil.rmtree(tmp_path / "home", ignore_errors=True)  # the copies that were kept when they were made
    if any_store.uri.startswith("s3"):
        source.write(news, b"x" + OTHER[1:].encode())
    else:
        path.write_text("x" + OTHER[1:])  # in place: a hard link is the same file
    with pytest.raises(
        CorruptArtifact, match=rf"{made.uri}/train/news.txt has sha256 .*link to {refs[1].uri}/.*{both}"
    ):
        any_store.fetch(made)
    with pytest.raises(CorruptArtifact, match=both):
        any_store.read(made, "train/news.txt")
    source.remove(news)
    files_at(made.uri).remove("train/news.txt")
    with pytest.raises(CorruptArtifact, match=rf"{made.uri}/train/news.txt is missing, .*{both}"):
        any_store.fetch(made)
    with pytest.raises(CorruptArtifact, match=both):
        verify(made.uri, read_manifest(made.uri))
    for ref in (made, refs[1]):  # the remedy that the message gives
        any_store.files_of(ref.name).remove("")
    assert any_store.fetch(make(any_store, joined(sources(any_store, identity))))


def test_a_source_that_is_gone_or_lacks_the_file_is_told_before_anything_is_made(
    any_store: Store, identity: Identity, tmp_path: Path
) -> None:
    refs = sources(any_store, identity)
    step = joined(refs)
    lacking = Step(step.identity, write_counts, lambda: {"a": (refs[1], "train/verse.txt")})
    with pytest.raises(
        MissingArtifact, match=rf"{refs[1].uri} has no file train/verse.txt, which is to be linked as a"
    ):
        make(any_store, lacking)
    with pytest.raises(ArtifactError, match=r"counts\.json is written and linked as well"):
        make(any_store, Step(step.identity, write_counts, lambda: {"counts.json": (refs[0], "funnel.json")}))
    elsewhere = Store.open(tmp_path / "elsewhere").build(Identity("corpus", "1", {"seed": 2}), write_other)
    with pytest.raises(MissingArtifact, match="lies outside of the store"):
        make(any_store, Step(step.identity, write_counts, lambda: {"a": (elsewhere, "train/news.txt")}))
    files_at(refs[1].uri).remove(stored(refs[1], "train/news.txt"))
    with pytest.raises(CorruptArtifact, match=f"train/news.txt is missing, .*{refs[1].uri}"):
        make(any_store, step)
    files_at(refs[1].uri).remove("")
    with pytest.raises(MissingArtifact, match=refs[1].uri):
        make(any_store, step)
    assert any_store.find(step.identity) is None


@pytest.mark.parametrize(
    "at",
    [
        *(path for path in HOSTILE_PATHS if path),
        *("a/b", "corpus/x/y", "_leases/0123456789abcdef/x", "corpus/0123456789abcdef/../../x"),
        *("corpus/0123456789abcdef", 5),
    ],
)
def test_a_link_out_of_the_artifacts_is_refused(at: Any, store: Store, identity: Identity) -> None:
    with pytest.raises(ValueError, match=r"the (path|link) "):
        FileEntry("a", 1, "0" * 64, at)
    ref = store.build(identity, write_corpus)
    file = Path(ref.uri, "manifest.json")
    content = json.loads(file.read_text())
    content["files"][0]["at"] = at
    file.write_text(json.dumps(content))
    with pytest.raises(CorruptArtifact, match="is not a manifest"):
        store.fetch(ref)


def test_a_link_bears_no_digest_and_is_written_only_where_it_is_one() -> None:
    plain = FileEntry("a", 1, "0" * 64)
    link = FileEntry("a", 1, "0" * 64, "corpus/0123456789abcdef/train/a.txt")
    assert Manifest((plain,)).digest == Manifest((link,)).digest
    assert b'"at"' not in Manifest((plain,)).to_json()
    assert Manifest.from_json(Manifest((link,)).to_json(), "here") == Manifest((link,))


def test_this_machine_fetches_a_linked_file_once(
    s3_uri: str, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(s3_uri)
    refs = sources(store, identity)
    made = make(store, joined(refs))
    shutil.rmtree(tmp_path / "home")
    fetched = logged(monkeypatch, "download")
    store.fetch(refs[0])
    folder = store.fetch(made)
    assert (folder / "train/prose.txt").read_text() == PROSE
    assert store.fetch(made) == folder and store.fetch(refs[0])
    prose, news = (f"{ref.uri}/{stored(ref, path)}" for ref, path in zip(refs, LINKED, strict=True))
    assert fetched.count(prose) == fetched.count(news) == 1
    assert len(fetched) == 5  # three of the corpus, the counts, the news
    (folder / "train/prose.txt").write_text("x" + PROSE[1:])  # its source's copy is the same file
    assert (store.fetch(made) / "train/prose.txt").read_text() == PROSE


def test_where_no_hard_link_can_be_made_the_file_is_copied(
    store: Store, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    ref, _ = sources(store, identity)
    manifest = read_manifest(ref.uri)
    linked = [FileEntry(e.path, e.size, e.sha256, f"{ref.name}/{e.path}") for e in manifest.files]

    def impossible(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "other disk")

    monkeypatch.setattr(os, "link", impossible)
    link_locally(Path(store.uri), linked, tmp_path / "folder", "joined/0")
    assert (tmp_path / "folder/train/prose.txt").read_text() == PROSE
    assert not os.path.samefile(tmp_path / "folder/train/prose.txt", f"{ref.uri}/train/prose.txt")


def join_and_die(store: Store, step: Step, count: int) -> None:
    if store.uri.startswith("s3"):
        die_at(RemoteFiles, ("put", "write", "create", "remove"), count)
    else:
        die_at(os, LOCAL_STEPS, count)
    store.build(step.identity, step.produce, wait_seconds=0, links=step.links)
    os._exit(0)


def test_killed_at_every_step_of_a_join(any_store: Store, identity: Identity) -> None:
    refs = sources(any_store, identity)
    kills = 0
    for count in range(1, 100):
        step = joined(refs)
        step = Step(Identity("joined", "1", {"count": count}, step.identity.inputs), step.produce, step.links)
        ended = run(join_and_die, any_store, step, count)
        found = any_store.find(step.identity)
        if found is not None:
            any_store.fetch(found)
        made = any_store.build(step.identity, step.produce, wait_seconds=0, links=step.links)
        assert (any_store.fetch(made) / "train/news.txt").read_text() == OTHER
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
    assert (4 if any_store.uri.startswith("s3") else 15) < kills < 99
    assert any_store.lost() == []
    assert [
        any_store.read(ref, path).decode()
        for ref, path in zip(refs, ("train/prose.txt", "train/news.txt"), strict=True)
    ] == [PROSE, OTHER]
