"""Nothing moves by accident: the `smoke` recipe makes what `tests/golden.json` says."""

import copy
import json

import pytest

from tests import golden


@pytest.fixture(scope="module")
def found(finished) -> dict:
    return golden.snapshot(finished[0])


def test_the_smoke_recipe_makes_what_it_made(found):
    said = golden.differences(json.loads(golden.FILE.read_text()), found)
    assert not said, "\n".join([*said, "if it is meant, raise the steps' versions and run `make golden`"])


def test_a_change_is_told_by_step_and_field(found):
    changed = copy.deepcopy(found)
    changed["steps"]["mid_1/sequences"]["digest"] = "0" * 16
    changed["steps"]["tokens"]["settings"] = "0" * 16
    changed["losses"]["sft"][2] *= 1.05
    said = golden.differences(found, changed)
    assert [line.split(" ")[:2] for line in said] == [["tokens:", "settings"], ["mid_1/sequences:", "digest"],
                                                      ["sft:", "loss"]]  # fmt: skip


def test_another_processor_is_held_to_losses_and_other_libraries_to_settings(found):
    elsewhere = copy.deepcopy(found) | {"processor": "another"}
    elsewhere["steps"]["sft/checkpoint"]["digest"] = "0" * 16
    elsewhere["losses"]["sft"][2] *= 1.001
    assert golden.differences(found, elsewhere) == []
    elsewhere["steps"]["corpus"]["digest"] = "0" * 16
    assert len(golden.differences(found, elsewhere)) == 1
    assert golden.differences(found, elsewhere | {"libraries": {}}) == []


def test_the_file_is_not_written_over_a_change_without_a_version(found, tmp_path):
    file = tmp_path / "golden.json"
    golden.write(found, file)
    changed = copy.deepcopy(found)
    changed["steps"]["tokens"]["digest"] = "0" * 16
    with pytest.raises(SystemExit, match=r"tokens: other bytes of equal inputs.*raise the step's version"):
        golden.write(changed, file)
    changed["steps"]["tokens"]["version"] = "next"
    golden.write(changed, file)
    assert json.loads(file.read_text()) == changed
