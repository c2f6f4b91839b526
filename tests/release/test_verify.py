"""Verification of a copied release: nothing altered, missing, added or inconsistent goes unnamed."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2model.release import ReleaseDamaged, verify_release
from k2model.release.manifest import write_manifests
from tests.artifacts.samples import HOSTILE_PATHS
from tests.artifacts.test_outside import IN_PLACE, ODD, changed, places


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "release"))


def damage(folder: Path) -> str:
    with pytest.raises(ReleaseDamaged) as caught:
        verify_release(folder)
    assert len(caught.value.problems) >= 1
    return str(caught.value)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_copy_is_whole(bundle: Path, copy: Path) -> None:
    found = verify_release(copy)
    assert found.manifest_sha256 == verify_release(bundle).manifest_sha256
    assert found.artifacts == 5 + 6 * 5 + 2 * 2
    there = {path for path in copy.rglob("*") if path.is_file()}
    of_manifests = {"RELEASE_MANIFEST.json", "manifest.json", "artifact.json"}
    assert found.files == len([path for path in there if path.name not in of_manifests])
    assert dict(found.rows())["bytes"] == f"{found.size:,}"


def test_without_the_stores_own_files_it_is_whole_too(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    (copy / "artifact.json").unlink()
    verify_release(str(copy))


FILES = (
    "model/model.safetensors", "model/config.json", "model/tokenizer.json", "model/chat_template.jinja",
    "checkpoints/mid_2/model.safetensors", "recipe/recipe.json", "data/composition.json",
    "data/composition-sft.csv", "data/curation.json", "data/validation.json", "data/sources.json",
    "evaluation/scores.json", "evaluation/scores.csv", "lineage.json", "MODEL_CARD.md", "README.md",
    "attachments/training/pretrain.jsonl", "attachments/samples/sft.jsonl", "attachments/provenance.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_named(copy: Path, name: str) -> None:
    flip_a_bit(copy / name)
    assert f"- {name}: altered" in damage(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"- {name}: missing" in damage(copy)


@pytest.mark.parametrize(
    "name", ["model/evil.py", "extra.txt", "attachments/more.jsonl", "checkpoints/new/config.json"]
)
def test_an_extra_file_is_named(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("x")
    assert f"- {name}: not part of the release" in damage(copy)


def test_all_problems_are_told_at_once(copy: Path) -> None:
    (copy / "README.md").unlink()
    (copy / "extra.txt").write_text("x")
    (copy / "data" / "sources.json").write_text("[]")
    message = damage(copy)
    assert all(name in message for name in ("README.md", "extra.txt", "data/sources.json"))


@pytest.mark.parametrize("name", ["RELEASE_MANIFEST.json", "attachments/RELEASE_MANIFEST.json"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{"), lambda path: path.write_text("[]")])
def test_a_damaged_manifest_is_named(copy: Path, name: str, spoil: Callable[[Path], object]) -> None:
    spoil(copy / name)
    assert f"- {name}: " in damage(copy)


@pytest.mark.parametrize("name", ["RELEASE_MANIFEST.json", "attachments/RELEASE_MANIFEST.json"])
def test_a_manifest_cannot_point_outside(copy: Path, name: str) -> None:
    content = json.loads((copy / name).read_text())
    for path in HOSTILE_PATHS:
        content["files"][0]["path"] = path
        (copy / name).write_text(json.dumps(content))
        assert ("is no text" if "\ud800" in path else "not one of a file inside the folder") in damage(copy)


def test_links_are_named_and_not_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "data").rename(tmp_path / "data")
    (tmp_path / "data" / "more.txt").write_text("x")
    (copy / "data").symlink_to(tmp_path / "data")
    (copy / "README.md").rename(tmp_path / "README.md")
    (copy / "README.md").symlink_to(tmp_path / "README.md")
    (copy / "extra").symlink_to(tmp_path)
    lines = damage(copy).splitlines()[1:-1]
    assert lines == [f"- {name}: a link, expected the file or folder itself" for name in ("README.md", "data", "extra")]


def test_a_release_behind_a_link_is_whole(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to(copy)
    verify_release(tmp_path / "newest")


def edit_lineage(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the lineage and make the manifests fit again, as a careful forger would."""
    content = json.loads((folder / "lineage.json").read_text())
    change({entry["name"]: entry for entry in content["artifacts"]})
    (folder / "lineage.json").write_text(json.dumps(content))
    rewrite_manifests(folder)


def rewrite_manifests(folder: Path) -> None:
    for name in ("RELEASE_MANIFEST.json", "attachments/RELEASE_MANIFEST.json", "manifest.json", "artifact.json"):
        (folder / name).unlink(missing_ok=True)
    write_manifests(folder)


def test_an_unchanged_lineage_passes_the_forgers_path(copy: Path) -> None:
    edit_lineage(copy, lambda entries: None)
    verify_release(copy)


def test_a_digest_that_does_not_follow_from_its_files_is_named(copy: Path) -> None:
    edit_lineage(copy, lambda entries: entries["mid_1/scores"].update(digest="0" * 64))
    assert f"mid_1/scores states digest {'0' * 64}" in damage(copy)


def test_an_input_from_nowhere_is_named(copy: Path) -> None:
    edit_lineage(copy, lambda entries: entries["sft/checkpoint"]["inputs"]["parent"].update(digest="1" * 64))
    assert f"sft/checkpoint was made of parent checkpoint {'1' * 64}" in damage(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries["sft/export"]["files"][0].update(path="../../x"),
        lambda entries: entries["sft/export"].update(name="../../x/export"),
        lambda entries: entries["sft/export"].update(name=1),
    ],
)
def test_a_lineage_cannot_point_outside(copy: Path, change: Callable[[dict], None]) -> None:
    edit_lineage(copy, change)
    assert "- lineage.json: not a lineage" in damage(copy)


def test_weights_of_another_phase_are_named(copy: Path) -> None:
    shutil.copyfile(copy / "checkpoints/mid_3/model.safetensors", copy / "model/model.safetensors")
    rewrite_manifests(copy)
    assert "model/model.safetensors: is not the file of sft/export" in damage(copy)


def test_the_error_survives_a_process_border(copy: Path) -> None:
    (copy / "README.md").unlink()
    with pytest.raises(ReleaseDamaged) as caught:
        verify_release(copy)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.problems == caught.value.problems


def test_an_empty_folder_is_no_release(tmp_path: Path) -> None:
    assert "RELEASE_MANIFEST.json: missing" in damage(tmp_path)


def forget(folder: Path, *names: str) -> None:
    """Remove files and list the rest anew, so that no list tells of them."""
    for name in names:
        (folder / name).unlink()
    rewrite_manifests(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_that_is_not_listed_either_is_named(copy: Path, name: str) -> None:
    forget(copy, name)
    assert f"- {name}: missing" in damage(copy)


def test_an_extra_file_that_is_listed_is_named(copy: Path) -> None:
    (copy / "model" / "evil.py").write_text("x")
    (copy / "attachments" / "more.jsonl").write_text("x")
    rewrite_manifests(copy)
    message = damage(copy)
    assert "- model/evil.py: not part" in message and "- attachments/more.jsonl: not part" in message


def test_an_empty_folder_is_named(copy: Path) -> None:
    (copy / "checkpoints" / "more" / "deep").mkdir(parents=True)
    assert "- checkpoints/more: an empty folder" in damage(copy)


def test_a_folder_with_two_empty_lists_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "attachments").mkdir()
    for name in ("RELEASE_MANIFEST.json", "attachments/RELEASE_MANIFEST.json"):
        (tmp_path / name).write_text('{"files": []}')
    assert "recipe/recipe.json: missing" in damage(tmp_path)


def test_an_empty_lineage_is_named(copy: Path) -> None:
    (copy / "lineage.json").write_text(json.dumps({"recipe": "laptop", "artifacts": []}))
    rewrite_manifests(copy)
    message = damage(copy)
    assert "lineage.json: it lacks corpus," in message and "lineage.json: it lacks sft/export" in message


def test_what_a_lineage_contradicts_is_named(copy: Path) -> None:
    edit_lineage(copy, lambda entries: entries["sft/export"].update(inputs=entries["mid_1/export"]["inputs"]))
    assert "lineage.json: sft/export was not made of sft/checkpoint" in damage(copy)


def test_a_list_that_is_not_the_stores_is_named(copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**content, "files": content["files"][1:]}))
    assert "manifest.json" in damage(copy)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["RELEASE_MANIFEST.json", "lineage.json", "recipe/recipe.json", "manifest.json"])
def test_what_lies_in_the_place_of_a_small_file_is_named(copy: Path, name: str) -> None:
    for put in IN_PLACE.values():
        (copy / name).unlink()
        put(copy / name)
        assert name in damage(copy)
        (copy / name).rmdir() if (copy / name).is_dir() and not (copy / name).is_symlink() else (copy / name).unlink()
        (copy / name).touch()


@pytest.mark.parametrize("name", ["RELEASE_MANIFEST.json", "lineage.json", "recipe/recipe.json"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_small_file_is_told(copy: Path, name: str, data: st.DataObject) -> None:
    """The only error is `ReleaseDamaged`, also where the lists were made to fit."""
    good = {path: path.read_bytes() for path in (copy / name, *copy.glob("**/*MANIFEST.json"), *copy.glob("*.json"))}
    content = json.loads((copy / name).read_bytes())
    way = data.draw(st.sampled_from(places(content)[:400]))
    (copy / name).write_text(json.dumps(changed(content, way, data.draw(st.sampled_from(ODD)))))
    try:
        if name != "RELEASE_MANIFEST.json":
            rewrite_manifests(copy)
        verify_release(copy)
    except ReleaseDamaged:
        pass
    finally:
        for path, data_before in good.items():
            path.write_bytes(data_before)
