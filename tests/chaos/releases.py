"""Damaged, forged and hostile releases: `k2 verify` names each, and never takes one for whole."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chaos.bench import Bench, Expected, Fault, Seen, Unexpected
from tests.release.test_verify import FILES, edit_lineage, flip_a_bit, forget, rewrite_manifests

WEIGHTS, LINEAGE, MANIFEST = "model/model.safetensors", "lineage.json", "RELEASE_MANIFEST.json"


def copy_of(bench: Bench) -> Path:
    """A release of a small lifecycle, which is whole."""

    def make(place: Path) -> Path:
        made = bench.run("subject", "release", "--store", str(place))
        if made.status != 0:
            raise Unexpected(f"no release can be made even undisturbed: {made.said}")
        return Path(made.made["release"]["uri"])

    return Path(shutil.copytree(bench.services.once("release", make), bench.folder / "release"))


def verified(change: Callable[[Bench, Path], str], bench: Bench) -> Seen:
    """`change` gives what the error has to name."""
    folder = copy_of(bench)
    whole = bench.run("k2", "verify", str(folder))
    if whole.status != 0:
        raise Unexpected(f"it is not whole to begin with: {whole.said}")
    word = change(bench, folder)
    return Seen([bench.run("k2", "verify", str(folder))], None, {}, (word,))


def bit(bench: Bench, folder: Path) -> str:
    name = bench.draw.choice(FILES)
    flip_a_bit(folder / name)
    return name


def weights_bit(bench: Bench, folder: Path) -> str:
    flip_a_bit(folder / WEIGHTS)
    return WEIGHTS


def missing(bench: Bench, folder: Path) -> str:
    name = bench.draw.choice(FILES)
    (folder / name).unlink()
    return name


def missing_and_not_listed(bench: Bench, folder: Path) -> str:
    name = bench.draw.choice((WEIGHTS, "recipe/recipe.json", "data/composition.json", "evaluation/scores.json"))
    forget(folder, name)
    return name


def extra(bench: Bench, folder: Path) -> str:
    (folder / "model" / "evil.py").write_text("x")
    return "model/evil.py"


def extra_and_listed(bench: Bench, folder: Path) -> str:
    (folder / "model" / "evil.py").write_text("x")
    rewrite_manifests(folder)
    return "model/evil.py"


def linked(bench: Bench, folder: Path) -> str:
    shutil.move(folder / "data", bench.folder / "data")
    (folder / "data").symlink_to(bench.folder / "data")
    return "data: a link"


def of_another_phase(bench: Bench, folder: Path) -> str:
    shutil.copyfile(folder / "checkpoints/mid_3/model.safetensors", folder / WEIGHTS)
    rewrite_manifests(folder)
    return WEIGHTS


def no_lineage(bench: Bench, folder: Path) -> str:
    (folder / LINEAGE).write_text(json.dumps({"recipe": "laptop", "artifacts": []}))
    rewrite_manifests(folder)
    return LINEAGE


def forged_lineage(bench: Bench, folder: Path) -> str:
    edit_lineage(folder, lambda entries: entries["mid_1/scores"].update(digest="0" * 64))
    return "mid_1/scores"


def empty_lists(bench: Bench, folder: Path) -> str:
    shutil.rmtree(folder)
    (folder / "attachments").mkdir(parents=True)
    for name in (MANIFEST, f"attachments/{MANIFEST}"):
        (folder / name).write_text('{"files": []}')
    return "missing"


def outside(bench: Bench, folder: Path) -> str:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][0]["path"] = "../../../etc/passwd"
    (folder / MANIFEST).write_text(json.dumps(content))
    return MANIFEST


def deep(bench: Bench, folder: Path) -> str:
    (folder / LINEAGE).write_bytes(b"[" * 200_000)
    return LINEAGE


def huge(bench: Bench, folder: Path) -> str:
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(100 * 2**20)
    return MANIFEST


def pipe(bench: Bench, folder: Path) -> str:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    return WEIGHTS


CHANGES = {
    "a bit of a file": bit, "a bit of the weights": weights_bit, "a missing file": missing,
    "a missing file, not listed either": missing_and_not_listed, "an added file": extra,
    "an added file, listed": extra_and_listed, "a linked folder": linked, "weights of another phase": of_another_phase,
    "an empty lineage": no_lineage, "a forged digest": forged_lineage, "two empty lists": empty_lists,
    "a path that leads outside": outside, "deep JSON": deep, "a list of 100 MB": huge, "a pipe for the weights": pipe,
}  # fmt: skip
FAULTS = [Fault(f"release/{name}", Expected.ERROR, partial(verified, change)) for name, change in CHANGES.items()]
