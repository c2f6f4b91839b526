"""Dataclasses as JSON: there and back, and what is said of JSON that people wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import pytest

from k2model.artifacts import ArtifactRef, FileEntry, Store
from k2model.continual.state import Batch, Model, State
from k2model.plain import NotPlain, canonical, from_plain, parsed, read_as, to_plain
from k2model.recipe.continual import ContinualConfig
from tests.continual.samples import batch, model


@dataclass(frozen=True)
class Sample:
    name: str
    share: float = 0.5
    days: tuple[str, str] | None = None
    counts: Mapping[int, int] | None = None
    files: tuple[FileEntry, ...] = ()


def read(text: str) -> Sample:
    return from_plain(Sample, parsed(text.encode()))


def test_there_and_back(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for kind, value in (
        (Batch, batch(store, "a")),
        (Model, model(store, 3)),
        (ContinualConfig, ContinualConfig("sft")),
    ):
        assert from_plain(kind, parsed(canonical(to_plain(value))), store.uri) == value
    state = State("x", models={3: model(store, 3)}, batches={"a": batch(store, "a")})
    assert from_plain(State, parsed(canonical(to_plain(state))), store.uri) == state


def test_what_a_clock_measured_is_not_written(tmp_path: Path) -> None:
    ref = model(Store.open(tmp_path)).made["tuned/export"]
    ref.stats["seconds"] = 1.5
    assert to_plain(ref)["stats"] == {"tokens": 1024.0} and str(tmp_path) not in canonical(to_plain(ref)).decode()


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"name": "a", "nmae": 1}', "'nmae' is no field; did you mean 'name'"),
        ("{}", "'name' is missing"),
        ('{"name": 3}', "'name' is 3, expected text"),
        ('{"name": "a", "share": "0.5"}', "'share' is \"0.5\", expected a number"),
        ('{"name": "a", "share": 1' + "0" * 400 + "}", "'share' is 10{56}..., expected a number"),
        ('{"name": "a", "share": true}', "'share' is true, expected a number"),
        ('{"name": "a", "days": ["x"]}', "'days' has 1 values, expected 2"),
        ('{"name": "a", "days": "x"}', "'days' is \"x\", expected a list"),
        ('{"name": "a", "counts": {"x": 1}}', "'counts' has the name 'x', expected a whole number"),
        (
            '{"name": "a", "counts": {"' + "9" * 5000 + '": 1}}',
            "'counts' has the name '9{60}', expected a whole number",
        ),
        ('{"name": "a", "counts": {"1": 1.5}}', "'counts.1' is 1.5, expected a whole number"),
        (
            '{"name": "a", "files": [{"path": "../b", "size": 1, "sha256": ""}]}',
            r"'files\[0\]': the path '../b' is not",
        ),
        ('{"name": "a", "files": [{"path": "b", "size": 1}]}', r"'files\[0\].sha256' is missing"),
        ("[]", r"the whole is \[\], expected an object"),
        ('{"name": "a", "name": "b"}', "'name' is given twice"),
        ('{"name": "a", "share": NaN}', "NaN is no number of JSON"),
        ('{"name": "a"', "it is no JSON"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('{"name": ' + '{"a": ' * 64 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ('{"name": "a", "share": 1e999}', "1e999 is larger than any number"),
        ('{"name": "a", "share": ' + "9" * 5000 + "}", "it is no JSON"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(NotPlain, match=told):
        read(text)


class Told(TypedDict):
    name: str
    rows: NotRequired[list[int]]


def test_a_dict_with_types_keeps_what_it_does_not_know() -> None:
    assert read_as(Told, b'{"name": "a", "rows": [1], "more": {"b": 2}}') == {
        "name": "a", "rows": [1], "more": {"b": 2},
    }  # fmt: skip
    for text, told in (('{"rows": []}', "'name' is missing"), ('{"name": "a", "rows": [1.5]}', r"'rows\[0\]' is 1.5")):
        with pytest.raises(NotPlain, match=told):
            read_as(Told, text.encode())


def test_no_more_is_read_than_the_bound() -> None:
    assert parsed(b"[1]", 3) == [1]
    with pytest.raises(NotPlain, match="more than 2 B"):
        parsed(b"[1]", 2)


@pytest.mark.parametrize("ref", [{"kind": "../x"}, {"digest": "../x"}, {"identity": ""}, {"stats": {"a": "b"}}])
def test_a_reference_names_no_other_folder(ref: dict) -> None:
    whole = {"kind": "corpus", "digest": "0" * 64, "identity": "1" * 64, "stats": {"a": 1}}
    assert from_plain(ArtifactRef, whole, "/s").uri == f"/s/corpus/{'1' * 16}"
    with pytest.raises(NotPlain):
        from_plain(ArtifactRef, whole | ref, "/s", "ref")


def test_bytes_that_are_no_text_are_named() -> None:
    with pytest.raises(NotPlain, match="it is not UTF-8"):
        parsed(b"\xff\xfe{}")


def test_what_json_has_not_is_no_silent_text() -> None:
    with pytest.raises(TypeError, match="Path cannot be written"):
        to_plain({"a": Path("x")})
    with pytest.raises(ValueError, match="nan"):
        to_plain([float("nan")])
