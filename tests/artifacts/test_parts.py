"""Artifacts made part by part: the same whatever the workers, and never more made again than was lost."""

import functools
import os
import shutil
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from k2model.artifacts import (
    CorruptArtifact,
    Identity,
    MissingArtifact,
    Part,
    PartedStep,
    Store,
    find_part,
    gather,
    make,
    make_part,
    missing_parts,
    totals,
)

NAMES = tuple(f"train/prose/{i:05d}" for i in range(5))
IDENTITY = Identity("corpus", "1", {"length": 3})


def produce(log: str, bad: str, part: Part, folder: Path) -> dict[str, float]:
    """One file with the part's name; `log` notes who was made, `bad` is the part that fails."""
    name = part.name
    with open(log, "a") as file:
        file.write(f"{name}\n")
    if name == bad:
        raise RuntimeError(f"cannot make {name}")
    if bad == f"kill {name}":
        os.kill(os.getpid(), signal.SIGKILL)
    path = folder / f"{name}.txt"
    path.parent.mkdir(parents=True)
    path.write_text(name)
    (folder / "attachments").mkdir()
    (folder / "attachments" / f"{name.replace('/', '-')}.log").write_text(str(os.getpid()))
    return {"documents": 2, "bytes": len(name)}


def finish(records, folder: Path) -> dict[str, float]:
    (folder / "funnel.json").write_text(str([record.name for record in records]))
    return totals(records)


def step(log: Path, bad: str = "", names=NAMES) -> PartedStep:
    parts = [Part(name) for name in names]
    return PartedStep(lambda: IDENTITY, lambda: parts, functools.partial(produce, str(log), bad), finish)


def build(uri: Path | str, log: Path, workers: int = 1, bad: str = "", names=NAMES):
    return make(Store.open(uri), step(log, bad, names), workers)


def test_the_artifact_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    one = build(tmp_path / "a", tmp_path / "log")
    two = build(tmp_path / "b", tmp_path / "log", workers=2)
    assert one.digest == two.digest
    assert two.stats == {"documents": 10.0, "bytes": float(sum(map(len, NAMES)))}
    folder = Store.open(tmp_path / "b").fetch(two)
    assert sorted(p.read_text() for p in folder.glob("train/prose/*.txt")) == list(NAMES)
    assert build(tmp_path / "b", tmp_path / "other") == two and not (tmp_path / "other").exists()


def test_the_record_tells_the_time_of_all_parts(tmp_path: Path) -> None:
    store, parted = Store.open(tmp_path / "store"), step(tmp_path / "log")
    took = sum(make_part(store, parted, part).seconds for part in missing_parts(store, parted))
    time.sleep(0.2)  # between the parts and their gathering nobody is at work
    gather(store, parted)
    [record] = store.records("corpus")
    assert took < record["provenance"]["seconds"] < took + 0.2


def test_what_a_failed_run_finished_is_not_made_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match="cannot make train/prose/00003"):
        build(tmp_path / "store", log, bad=NAMES[3])
    assert log.read_text().split() == list(NAMES[:4])
    log.unlink()
    made = build(tmp_path / "store", log)
    assert log.read_text().split() == list(NAMES[3:])
    assert made.digest == build(tmp_path / "fresh", tmp_path / "log2").digest


def test_a_killed_maker_leaves_its_part_to_be_made_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    work = functools.partial(build, tmp_path / "store", log, 1, f"kill {NAMES[2]}")
    victim = get_context("spawn").Process(target=work)
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    log.unlink()
    made = build(tmp_path / "store", log)
    assert log.read_text().split() == list(NAMES[2:])
    assert made.digest == build(tmp_path / "fresh", tmp_path / "log2").digest
    assert not [*(tmp_path / "store" / "_scratch").rglob("*.txt"), *(tmp_path / "store" / "_parts").glob("*/*")]


def test_gathering_names_what_is_missing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    own = step(tmp_path / "log")
    make_part(store, own, Part(NAMES[1]))
    with pytest.raises(MissingArtifact, match=r"lacks 4 of its 5 parts.*train/prose/00000, train/prose/00002"):
        gather(store, own)
    assert store.find(IDENTITY) is None


def test_the_store_says_which_parts_are_to_be_made(tmp_path: Path) -> None:
    """Also when parts that were made are gone, or the whole artifact is."""
    store, own = Store.open(tmp_path / "store"), step(tmp_path / "log")

    def missing() -> list[str]:
        return [part.name for part in missing_parts(store, own)]

    assert missing() == list(NAMES)
    for name in NAMES[1:4]:
        make_part(store, own, Part(name))
    assert missing() == [NAMES[0], NAMES[4]]
    shutil.rmtree(store.parts_of(IDENTITY.name).uri)
    assert missing() == list(NAMES)
    for name in NAMES:
        make_part(store, own, Part(name))
    made = gather(store, own)
    assert missing() == [] and gather(store, own) == made
    shutil.rmtree(made.uri)
    with pytest.raises(MissingArtifact, match="lacks 5 of its 5 parts"):
        gather(store, own)


def test_parts_of_another_division_do_not_get_in(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build(tmp_path / "store", tmp_path / "log", bad=NAMES[4])
    made = build(tmp_path / "store", tmp_path / "log", names=NAMES[:2])
    assert made.digest == build(tmp_path / "fresh", tmp_path / "log", names=NAMES[:2]).digest
    Store.open(tmp_path / "store").fetch(made)


def late(inner: PartedStep, uri: str, log: str, part: Part, folder: Path) -> dict[str, float]:
    """While this worker is at it, others make the whole artifact as `inner` says."""
    make(Store.open(uri), inner)
    return produce(log, "", part, folder)


@pytest.mark.parametrize("name", [NAMES[1], "train/prose/other"])
def test_a_worker_that_comes_too_late_leaves_the_artifact_as_it_is(tmp_path: Path, name: str) -> None:
    """One that was taken for lost, so that its part was made by another, and one of another division."""
    uri, log = str(tmp_path / "store"), str(tmp_path / "log")
    store, inner = Store.open(uri), step(tmp_path / "log")
    slow = PartedStep(lambda: IDENTITY, lambda: [Part(name)], functools.partial(late, inner, uri, log), finish)
    make_part(store, slow, Part(name))
    made = store.find(IDENTITY)
    assert made is not None
    store.fetch(made)
    assert make_part(store, slow, Part(name)).name == name and gather(store, slow) == made
    store.fetch(made)


def test_a_damaged_record_and_a_lost_file_are_named(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(RuntimeError):
        build(tmp_path / "store", tmp_path / "log", bad=NAMES[4])
    beside = Path(store.parts_of(IDENTITY.name).uri)
    next(beside.glob(f"_made/*/{NAMES[0]}.txt")).unlink()
    with pytest.raises(CorruptArtifact, match=r"00000\.txt is missing"):
        build(tmp_path / "store", tmp_path / "log")
    (beside / "records" / f"{NAMES[1]}.json").write_text("{")
    with pytest.raises(CorruptArtifact, match=r"prose/00001\.json is not a part's record"):
        find_part(store, IDENTITY.name, NAMES[1])


def test_only_what_is_wanted_is_fetched_and_verified(tmp_path: Path) -> None:
    made = build(tmp_path / "store", tmp_path / "log")
    store = Store.open(tmp_path / "store")
    (Path(made.uri) / f"{NAMES[0]}.txt").write_text("train/prose/00009")
    assert (store.fetch(made, lambda path: "00001" in path) / f"{NAMES[1]}.txt").read_text() == NAMES[1]
    with pytest.raises(CorruptArtifact, match=r"00000\.txt has sha256"):
        store.fetch(made, lambda path: "00000" in path)


def test_parts_on_an_object_store(s3_uri: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build(s3_uri, tmp_path / "log", bad=NAMES[2])
    made = build(s3_uri, tmp_path / "log")
    assert (tmp_path / "log").read_text().split() == [*NAMES[:3], *NAMES[2:]]
    assert made.digest == build(tmp_path / "local", tmp_path / "log").digest
    folder = Store.open(s3_uri).fetch(made, lambda path: path.endswith("00004.txt"))
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["00004.txt"]


def test_a_record_of_a_part_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    store, made = Store.open(tmp_path / "store"), step(tmp_path / "log")
    part = Part(NAMES[0])
    make_part(store, made, part)
    record = Path(store.parts_of(IDENTITY.name).uri) / "records" / f"{part.name}.json"
    made_so = record.read_text()
    for honest, hostile, message in (
        (f'"{part.name}.txt"', '"attachments/../../x"', "not one of a file inside the folder"),
        (f'"name": "{part.name}"', '"name": "../../x"', "it is of part '../../x'"),
    ):
        record.write_text(made_so.replace(honest, hostile))
        with pytest.raises(CorruptArtifact, match=rf"is not a part's record .*{message}"):
            find_part(store, IDENTITY.name, part.name)
