"""What every store does, on a local folder and on a real S3 service."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from k2model.artifacts import (
    ArtifactError,
    ArtifactRef,
    CorruptArtifact,
    FileEntry,
    Identity,
    Manifest,
    MissingArtifact,
    Store,
    hash_file,
    read_manifest,
    verify,
)
from k2model.artifacts.files import files_at
from k2model.artifacts.owner import owner_name
from k2model.recipe.schema import CheckpointConfig, OptimizerName
from tests.artifacts.samples import DAMAGES, HOSTILE_PATHS, PROSE, files_below, stored, write_corpus


def never(folder: Path) -> dict[str, float]:
    raise AssertionError("an artifact that is there was made again")


def test_build_find_fetch(any_store: Store, identity: Identity) -> None:
    assert any_store.find(identity) is None
    ref = any_store.build(identity, write_corpus)
    location = f"{any_store.uri}/corpus/{identity.key[:16]}"
    assert ref == ArtifactRef("corpus", location, ref.digest, identity.key, {"documents": 100.0})
    assert any_store.location(identity) == location
    assert any_store.find(identity) == ref
    assert any_store.build(identity, never) == ref
    assert Store.open(any_store.uri).build(identity, never) == ref

    folder = any_store.fetch(ref)
    assert (folder / "train/prose.txt").read_text() == PROSE
    assert (folder / "attachments/timings.txt").read_text() == "0.1 s"
    assert any_store.read(ref, "train/prose.txt").decode() == PROSE
    assert any_store.record(ref)["digest"] == read_manifest(ref.uri).digest == ref.digest
    with pytest.raises(MissingArtifact, match=r"has no file train/verse\.txt: another version"):
        any_store.read(ref, "train/verse.txt")
    verify(ref.uri, read_manifest(ref.uri))


def test_digest_depends_on_content_alone(any_store: Store, identity: Identity, tmp_path: Path) -> None:
    def with_other_timings(folder: Path) -> dict[str, float]:
        write_corpus(folder)
        (folder / "attachments/timings.txt").write_text("99 s")
        return {"documents": 0}

    ref = any_store.build(identity, write_corpus)
    elsewhere = Store.open(tmp_path / "elsewhere").build(identity, with_other_timings)
    assert elsewhere.digest == ref.digest


def test_a_store_of_another_layout_is_refused(any_store: Store) -> None:
    files_at(any_store.uri).write("store.json", b'{"layout": 2}')
    with pytest.raises(ArtifactError, match="a store of layout 2, this version of the project reads and writes 1"):
        Store.open(any_store.uri)


def test_record_tells_config_inputs_and_provenance(any_store: Store, identity: Identity) -> None:
    raw = any_store.build(identity, write_corpus)
    config = {"checkpoints": CheckpointConfig(save_every=3), "optimizer": OptimizerName.MUON, "shares": (0.5, 1)}
    curated = Identity("curated", "7", config, {"raw": raw})
    any_store.build(curated, write_corpus)
    record = json.loads(files_at(any_store.location(curated)).read("artifact.json"))
    assert record["config"] == {
        "checkpoints": asdict(CheckpointConfig(save_every=3)),
        "optimizer": "muon",
        "shares": [0.5, 1],
    }
    assert record["inputs"] == {"raw": {"kind": "corpus", "digest": raw.digest, "uri": f"corpus/{identity.key[:16]}"}}
    assert (record["step"], record["version"], record["identity"]) == ("curated", "7", curated.key)
    assert record["digest"] == read_manifest(any_store.location(curated)).digest
    made = record["provenance"]
    assert made["started"] <= made["ended"]
    assert made["seconds"] >= 0
    assert made["packages"]["fsspec"]
    assert any_store.records("curated") == [record]
    assert any_store.steps() == ["corpus", "curated"]


def test_record_holds_no_secret(store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-environment")
    monkeypatch.setattr("sys.argv", ["k2", "--tracking=http://me:hunter2-argument@mlflow/"])
    ref = store.build(identity, write_corpus)
    text = Path(ref.uri, "artifact.json").read_text()
    assert "hunter2" not in text
    assert "http://***@mlflow/" in text


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_fetch_refuses_damage(store: Store, identity: Identity, damage: Callable[[Path], str]) -> None:
    ref = store.build(identity, write_corpus)
    store.fetch(ref)
    message = damage(Path(ref.uri))
    with pytest.raises(CorruptArtifact, match=message):
        store.fetch(ref)
    shutil.rmtree(ref.uri)  # the remedy that the message gives
    assert store.fetch(store.build(identity, write_corpus)) == Path(ref.uri)


def test_one_file_is_read_as_it_was_written_or_not_at_all(any_store: Store, identity: Identity) -> None:
    ref = any_store.build(identity, write_corpus)
    files, funnel = files_at(ref.uri), stored(ref, "funnel.json")
    files.write(funnel, b"{}")
    with pytest.raises(CorruptArtifact, match=r"funnel\.json has sha256 \w+, expected 18 bytes"):
        any_store.read(ref, "funnel.json")
    files.remove(funnel)
    with pytest.raises(CorruptArtifact, match=r"funnel\.json is missing, expected 18 bytes"):
        any_store.read(ref, "funnel.json")
    assert any_store.read(ref, "attachments/timings.txt") == b"0.1 s", "the others are not looked at"


def test_fetch_refuses_another_artifact_than_asked_for(any_store: Store, identity: Identity) -> None:
    ref = any_store.build(identity, write_corpus)
    with pytest.raises(CorruptArtifact, match=f"digest {ref.digest}, expected {'0' * 64}"):
        any_store.fetch(replace(ref, digest="0" * 64))
    with pytest.raises(CorruptArtifact, match=f"digest {ref.digest}, expected {'0' * 64}"):
        any_store.read(replace(ref, digest="0" * 64), "funnel.json")


def test_fetch_of_what_is_not_there(any_store: Store, identity: Identity) -> None:
    missing = ArtifactRef("corpus", any_store.location(identity), "0" * 64, identity.key)
    with pytest.raises(MissingArtifact, match=any_store.location(identity)):
        any_store.fetch(missing)
    with pytest.raises(MissingArtifact, match=any_store.location(identity)):
        any_store.read(missing, "funnel.json")


def test_a_moved_store_serves_references_into_its_old_place(store: Store, identity: Identity, tmp_path: Path) -> None:
    ref = store.build(identity, write_corpus)
    Path(store.uri).rename(tmp_path / "moved")
    assert Store.open(tmp_path / "moved").fetch(ref) == tmp_path / "moved" / ref.name


def test_lost_names_what_was_made_and_is_gone(any_store: Store, identity: Identity) -> None:
    other = replace(identity, version="2")
    any_store.build(identity, write_corpus)
    ref = any_store.build(other, write_corpus)
    assert any_store.lost() == []
    files_at(any_store.uri).remove(ref.name)
    assert any_store.lost() == [ref.name]
    any_store.build(other, write_corpus)
    assert any_store.lost() == []


def test_an_unfinished_folder_is_made_anew(any_store: Store, identity: Identity) -> None:
    files_at(any_store.location(identity)).write("half.txt", b"written by a killed process")
    assert any_store.find(identity) is None
    ref = any_store.build(identity, write_corpus)
    assert "half.txt" not in files_at(ref.uri).sizes()


def test_adopt_finishes_files_written_in_place(any_store: Store) -> None:
    identity = Identity("checkpoint", "1", {"steps": 3})
    files = files_at(any_store.location(identity))
    with any_store.lease(identity):
        files.write("final/model.bin", b"weights")
        files.write("checkpoints/step-1/model.bin", b"older weights")
        assert any_store.find(identity) is None
        sha256 = hashlib.sha256(b"weights").hexdigest()
        with pytest.raises(CorruptArtifact, match=r"final/other\.bin is missing"):
            any_store.adopt(identity, Manifest((FileEntry("final/other.bin", 7, sha256),)), {})
        manifest = Manifest((FileEntry("final/model.bin", 7, sha256),))
        ref = any_store.adopt(identity, manifest, {"loss": 2.5})
    assert any_store.adopt(identity, manifest, {"loss": 9.0}) == ref == any_store.find(identity)
    assert (any_store.fetch(ref) / "final/model.bin").read_bytes() == b"weights"
    assert ref.digest == manifest.digest
    assert ref.stats == {"loss": 2.5}
    with pytest.raises(CorruptArtifact, match="cannot be finished again"):
        any_store.adopt(identity, Manifest(()), {})


def test_stats_must_be_numbers(store: Store, identity: Identity) -> None:
    with pytest.raises(TypeError, match=r"step corpus: stat 'loss' is 'low'"):
        store.build(identity, lambda folder: {"loss": "low"})  # type: ignore[dict-item]
    assert store.find(identity) is None


def test_a_record_of_another_identity_is_refused(store: Store, identity: Identity) -> None:
    ref = store.build(identity, write_corpus)
    other = replace(identity, version="2")
    shutil.copytree(ref.uri, store.location(other))
    with pytest.raises(CorruptArtifact, match=r"artifact\.json is of another artifact"):
        store.find(other)
    (Path(ref.uri) / "artifact.json").write_text("{")
    with pytest.raises(CorruptArtifact, match=r"artifact\.json is not an artifact's record"):
        store.find(identity)


def test_a_manifest_whose_paths_leave_the_folder_is_refused(
    any_store: Store, identity: Identity, tmp_path: Path
) -> None:
    """Attachments bear no digest, so a manifest may list one more and still be the one that a reference names."""
    ref = any_store.build(identity, write_corpus)
    files, data = files_at(ref.uri), b"not yours"
    files_at(any_store.uri).write("corpus/x", data)
    honest = json.loads(files.read("manifest.json"))
    shutil.rmtree(tmp_path / "home", ignore_errors=True)  # the copy that was kept when it was made
    before = files_below(tmp_path)
    for path in HOSTILE_PATHS:
        entry = {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        made = honest.get("made", {})
        for hostile in (
            honest | {"files": [*honest["files"], entry]},
            honest | {"made": {**made, owner_name(): [entry]}},
            honest | {"made": {**made, path: [entry | {"path": "attachments/x"}]}},
        ):
            files.write("manifest.json", json.dumps(hostile).encode())
            for use in (any_store.fetch, any_store.look_up, lambda _: any_store.find(identity)):
                with pytest.raises(CorruptArtifact, match=r"manifest\.json is not a manifest"):
                    use(ref)
    assert files_below(tmp_path) == before, "nothing is written"


@pytest.mark.parametrize("linked", ["train", "train/prose.txt"])
def test_nothing_is_read_or_written_through_a_link(
    any_store: Store, identity: Identity, tmp_path: Path, linked: str
) -> None:
    ref = any_store.build(identity, write_corpus)
    there, outside = any_store.fetch(ref) / linked, tmp_path / "outside"
    there.rename(outside)
    there.symlink_to(outside)
    before = [(name, (tmp_path / name).stat().st_mtime_ns) for name in files_below(tmp_path) if "outside" in name]
    with pytest.raises(CorruptArtifact, match=linked):
        any_store.fetch(ref)
    with pytest.raises(CorruptArtifact, match=f"{linked} is a link"):
        any_store.fetch(ref, lambda path: path == "train/prose.txt")
    if "://" not in any_store.uri:  # of another store nothing is read from this machine
        with pytest.raises(CorruptArtifact, match=f"{linked} is a link"):
            any_store.read(ref, "train/prose.txt")
    assert before == [(name, (tmp_path / name).stat().st_mtime_ns) for name, _ in before]


@pytest.mark.parametrize(
    "changed",
    [
        {"step": "../../elsewhere"},
        {"step": "a/b"},
        {"identity": "../../../../etc/passwd"},
        {"identity": "0" * 63},
        {"digest": "."},
        {"inputs": {"raw": {"kind": "../..", "digest": "0" * 64}}},
        {"inputs": ["raw"]},
        {"step": 1},
    ],
)
def test_a_record_whose_names_are_no_names_is_refused(store: Store, identity: Identity, changed: dict) -> None:
    ref = store.build(identity, write_corpus)
    for path in (Path(ref.uri) / "artifact.json", Path(store.uri) / f"_ledger/corpus/{identity.key}.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(CorruptArtifact, match="is not an artifact's record"):
        store.find(identity)
    with pytest.raises(CorruptArtifact, match="is not an artifact's record"):
        store.records("corpus")


@pytest.mark.parametrize("uri", ["s3://key:CA/NA@RY@bucket/store", "s3://bucket/store?X-Amz-Signature=CANARY"])
def test_an_address_with_credentials_is_refused_without_telling_them(uri: str) -> None:
    with pytest.raises(ArtifactError, match="AWS_ACCESS_KEY_ID") as told:
        Store.open(uri)
    assert "***" in str(told.value) and not {"CA/NA", "RY", "CANARY"} & {*re.split(r"[@=/ ]", str(told.value))}


def test_damaged_store_file_is_named(store: Store) -> None:
    (Path(store.uri) / "store.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"store\.json is not a store's file"):
        Store.open(store.uri)


def test_hash_of_a_fetched_file_is_the_manifests(any_store: Store, identity: Identity) -> None:
    ref = any_store.build(identity, write_corpus)
    folder = any_store.fetch(ref)
    assert {e.path: e.sha256 for e in read_manifest(ref.uri).files} == {
        path: hash_file(folder / path) for path in ("attachments/timings.txt", "funnel.json", "train/prose.txt")
    }
