"""Small files of a stranger's store: whatever they hold ends in an error with a name, and never in a hang."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2model.artifacts import ArtifactError, ArtifactRef, CorruptArtifact, FileEntry, Identity, Manifest, Store
from k2model.artifacts.files import files_at
from k2model.artifacts.manifest import MOST, describe_folder
from k2model.artifacts.outside import LONGEST_NAME, LONGEST_PATH, read_small
from k2model.plain import NotPlain
from tests.artifacts.samples import write_corpus

SHA = "0" * 64
IDENTITY = Identity("corpus", "1", {"seed": 0})


@pytest.fixture
def made(store: Store) -> ArtifactRef:
    return store.build(IDENTITY, write_corpus)


def look(store: Store, ref: ArtifactRef) -> None:
    """Everything that reads the store's small files."""
    opened = Store.open(store.uri)
    opened.find(IDENTITY)
    opened.fetch(ref)
    opened.record(ref)
    for step in opened.steps():
        opened.records(step)
    opened.lost()
    opened.is_being_made(ref.name)


def small_files(store: Store) -> dict[str, Path]:
    root = Path(store.uri)
    return {
        "store.json": root / "store.json",
        "manifest.json": root / IDENTITY.name / "manifest.json",
        "artifact.json": root / IDENTITY.name / "artifact.json",
        "ledger": root / "_ledger/corpus" / f"{IDENTITY.key}.json",
        "lease": root / "_leases" / IDENTITY.name / "00000001.json",
    }


NAMES = ["store.json", "manifest.json", "artifact.json", "ledger", "lease"]


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    other = Path(mkdtemp()) / path.name
    other.write_text("{}")
    path.symlink_to(other)


#: What may lie in the place of a small file, beside other content.
IN_PLACE: dict[str, Callable[[Path], object]] = {
    "folder": a_folder,
    "pipe": os.mkfifo,
    "link": a_link,
    "link to nothing": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "nothing in it": Path.touch,
    "depth": lambda path: path.write_bytes(b"[" * 200_000),
    "depth that can be parsed": lambda path: path.write_bytes(b'{"config":' * 900 + b"1" + b"}" * 900),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "another kind": lambda path: path.write_bytes(b"[]"),
    "a number": lambda path: path.write_bytes(b"1e999"),
    "too much": lambda path: path.write_bytes(b" " * (MOST + 1)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_what_lies_in_the_place_of_a_file_is_named(store: Store, made: ArtifactRef, name: str) -> None:
    path = small_files(store)[name]
    good = path.read_bytes()
    for put in IN_PLACE.values():
        path.unlink()
        put(path)
        with pytest.raises(ArtifactError) as caught:
            look(store, made)
            with store.lease(IDENTITY):  # a folder is in no listing
                pass
        assert path.name in str(caught.value) and store.uri in str(caught.value)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.write_bytes(good)
        look(store, made)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_the_place_of_a_folder_is_named(store: Store, made: ArtifactRef, name: str) -> None:
    path = small_files(store)[name]
    if name != "store.json":
        path.parent.rename(path.parent.with_name("elsewhere"))
        path.parent.write_text("x")
        with pytest.raises(ArtifactError, match=path.parent.name):
            look(store, made)


#: Values of another type, or of a size that no file has.
ODD: list[Any] = [None, [], {}, "", "../../x", -1, math.nan, math.inf, 1e300, True, [[]], "x" * 5_000, "\x1b[2J"]


def places(value: Any) -> list[tuple[Any, ...]]:
    """The way to every value in what JSON holds."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [(), *((key, *way) for key, one in inner for way in places(one))]


def changed(value: Any, way: tuple[Any, ...], to: Any) -> Any:
    if not way:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = changed(copy[way[0]], way[1:], to)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_small_file_is_named_or_harmless(
    store: Store, made: ArtifactRef, name: str, data: st.DataObject
) -> None:
    """No error but an `ArtifactError` that names the file; and what is not named changes nothing that is used."""
    path = small_files(store)[name]
    good = path.read_bytes()
    content = json.loads(good)
    way = data.draw(st.sampled_from(places(content)))
    to = data.draw(st.sampled_from(ODD) | JSON)
    path.write_bytes(json.dumps(changed(content, way, to)).encode())
    try:
        look(store, made)
    except ArtifactError as error:
        assert store.uri in str(error)
    finally:
        path.write_bytes(good)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=64))
def test_any_bytes_are_no_manifest(data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match=r"x/manifest\.json is not a manifest"):
        Manifest.from_json(data, "x")


@pytest.mark.parametrize(
    "path", ["_ledger/x", "_ledger/corpus/notes.txt", "_ledger/corpus/a/b.json", "_ledger/Corpus/" + SHA + ".json",
             "_ledger/corpus/" + SHA + ".json.bak"],
)  # fmt: skip
def test_a_stray_file_in_the_ledger_is_named(store: Store, made: ArtifactRef, path: str) -> None:
    (Path(store.uri) / path).parent.mkdir(parents=True, exist_ok=True)
    (Path(store.uri) / path).write_text("{}")
    for view in (store.steps, store.lost, lambda: store.records("corpus")):
        with pytest.raises(CorruptArtifact, match=f"{path} is no record of the ledger.*take it away"):
            view()


def test_a_record_in_the_place_of_another_is_named(store: Store, made: ArtifactRef) -> None:
    path = small_files(store)["ledger"]
    path.rename(path.with_name(f"{SHA}.json"))
    with pytest.raises(CorruptArtifact, match=f"{SHA}.json is the record of _ledger/corpus/{IDENTITY.key}"):
        store.records("corpus")


@pytest.mark.parametrize("size", [-1, 1.5, True, "1", 1 << 63, math.inf, None])
def test_a_size_is_a_number_of_bytes(size: Any) -> None:
    with pytest.raises(ValueError, match="expected a number of bytes"):
        FileEntry("a", size, SHA)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, "0" * 64 + "\n", None])
def test_a_hash_is_64_digits(sha256: Any) -> None:
    with pytest.raises(ValueError, match="expected 64 hex digits"):
        FileEntry("a", 1, sha256)


def test_the_length_of_paths_is_bounded() -> None:
    for path in ("a" * LONGEST_NAME, "/".join(["ab"] * (LONGEST_PATH // 3)), "é" * (LONGEST_NAME // 2)):
        FileEntry(path, 1, SHA)
    for path in ("a" * (LONGEST_NAME + 1), "a/" * LONGEST_PATH + "a", "é" * LONGEST_NAME):
        with pytest.raises(ValueError, match="too long"):
            FileEntry(path, 1, SHA)


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "x", "a/b")])
def test_a_path_is_one_file(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"listed twice|and as a folder"):
        Manifest(tuple(FileEntry(path, 1, SHA) for path in paths))


def test_a_manifest_that_nobody_may_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2model.artifacts.manifest.MOST", 200)
    with pytest.raises(ArtifactError, match="fewer and larger files"):
        Manifest((FileEntry("a", 1, SHA), FileEntry("b", 1, SHA))).to_json()


@pytest.mark.parametrize("put", [a_folder, a_link, os.mkfifo], ids=["folder", "link", "pipe"])
def test_an_artifact_holds_files_and_folders_alone(tmp_path: Path, put: Callable[[Path], object]) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "in" / "one")
    if put is a_folder:
        assert describe_folder(tmp_path / "in").files == ()
    else:
        with pytest.raises(ArtifactError, match="one is a link or no file"):
            describe_folder(tmp_path / "in")


def test_no_reader_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    files = files_at(tmp_path)
    for read in (files.read, files.open, lambda path: files.read_range(path, 0, 1)):
        with pytest.raises(CorruptArtifact, match="pipe is a pipe or a device, expected a file"):
            read("pipe")
        with pytest.raises(IsADirectoryError):
            read("folder")


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_no_more_of_a_file_is_read_than_the_bound(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    files = files_at(tmp_path if kind == "local" else request.getfixturevalue("s3_uri"))
    for content in (b"", b"abc"):
        files.write("x", content)
        assert read_small(files, "x", 3) == content
    with pytest.raises(NotPlain, match="more than 2 B"):
        read_small(files, "x", 2)
    with pytest.raises(FileNotFoundError):
        read_small(files, "y", 2)
