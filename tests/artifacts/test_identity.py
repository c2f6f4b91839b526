"""Keys follow content and not places; references travel."""

import dataclasses

import pytest

from k2model.artifacts import ArtifactRef, Identity, fingerprint

RAW = ArtifactRef("corpus_raw", "/store/corpus_raw/1", "d" * 64, "e" * 64, {"documents": 3.0})


def test_key_is_over_step_version_config_and_input_digests() -> None:
    identity = Identity("corpus", "2", {"seed": 1}, {"raw": RAW})
    assert identity.key == fingerprint(
        {"step": "corpus", "version": "2", "config": {"seed": 1}, "inputs": {"raw": "d" * 64}}
    )
    assert identity.name == f"corpus/{identity.key[:16]}"


@pytest.mark.parametrize(
    "change",
    [
        {"step": "corpus2"},
        {"version": "2"},
        {"config": {"seed": 2}},
        {"inputs": {}},
        {"inputs": {"other": RAW}},
        {"inputs": {"raw": dataclasses.replace(RAW, digest="f" * 64)}},
    ],
)
def test_what_changes_a_key(change: dict) -> None:
    identity = Identity("corpus", "1", {"seed": 1}, {"raw": RAW})
    assert dataclasses.replace(identity, **change).key != identity.key


@pytest.mark.parametrize("change", [{"uri": "s3://elsewhere/x"}, {"identity": "0" * 64}, {"stats": {"seconds": 1.0}}])
def test_an_input_of_equal_digest_is_the_same_input(change: dict) -> None:
    moved = dataclasses.replace(RAW, **change)
    assert Identity("corpus", "1", {}, {"raw": moved}).key == Identity("corpus", "1", {}, {"raw": RAW}).key
    assert fingerprint(moved) == fingerprint(RAW), "a reference inside a config counts by kind and digest as well"


@pytest.mark.parametrize("step", ["", "../x", "_ledger", "a/b", "Corpus"])
def test_step_must_name_a_folder(step: str) -> None:
    with pytest.raises(ValueError, match="step name"):
        Identity(step, "1", {})


def test_reference_travels_through_flytekit() -> None:
    from flytekit import FlyteContextManager
    from flytekit.core.type_engine import TypeEngine

    context = FlyteContextManager.current_context()
    kind = TypeEngine.to_literal_type(ArtifactRef)
    literal = TypeEngine.to_literal(context, RAW, ArtifactRef, kind)
    back = TypeEngine.to_python_value(context, literal, ArtifactRef)
    assert back == RAW
    assert isinstance(back.stats["documents"], float)
    assert {back, RAW} == {RAW}
