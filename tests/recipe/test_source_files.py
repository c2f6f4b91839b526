"""Settings of sources that are read from files: what cannot work is told by field, with what to do."""

from dataclasses import replace

import pytest

from k2model.artifacts import fingerprint
from k2model.errors import CorpusError
from k2model.ingest.raw import raw_step
from k2model.recipe import RecipeError, apply_overrides, load_recipe
from k2model.recipe.fields import without_places
from k2model.recipe.schema import FieldMapping, SourceConfig, SourceFormat
from k2model.recipe.source_problems import source_problem
from k2model.recipe.validate import validate_recipe

GOOD = SourceConfig("web", location="/data/web", domain="prose", licence="CC0-1.0")


def test_a_good_source_has_no_problem():
    assert source_problem(GOOD) is None
    assert source_problem(SourceConfig("prose", documents=5, context=7)) is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("documents", 10, "set sample to a share"),
        ("domain", "", "domain is empty; name what"),
        ("licence", "", "SPDX id or 'unknown', or map fields.licence"),
        ("fields.text", "", "names neither text nor messages"),
        ("effort", "huge", "must be one of low, medium, high"),
        ("encoding", "utf-9", "is not a text encoding"),
        ("encoding", "base64", "is not a text encoding"),
        ("encoding", "utf-16", "convert JSONL to UTF-8"),
        ("heldout", 1.5, "heldout=1.5 must be a share between 0 and 1"),
        ("sample", 0.0, "leave nothing to train on"),
        ("max_quarantined", float("nan"), "must be a share"),
        ("max_row_bytes", 0, "must be at least 1"),
        ("location", "", "domain has no effect without a location"),
    ],
)
def test_what_cannot_work_names_the_field(path, value, message):
    problem = source_problem(apply_overrides(GOOD, {path: value}))
    assert problem is not None and problem.startswith("corpus.sources.web") and message in problem


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("web/cc", "web-cc"), "'web/cc' and 'web-cc' share the folder 'web-cc'"),
        (("a/b-c", "d", "a-b/c"), "'a/b-c' and 'a-b/c' share the folder 'a-b-c'"),
        (("Web", "web"), "'Web' and 'web' differ only in case"),
        (("caf\u00e9", "cafe\u0301"), "differ only in case, in the form of their accents"),
        (("web", "web."), "by a dot at the end"),
        (("web", "web"), "'web' and 'web' are one name"),
        (("..",), "named '..', which is no name of a folder"),
        (("",), "named '', which"),
        (("a\nb",), r"named 'a\\nb', which"),
        (("n" * 300,), "at most 200 bytes"),
    ],
)
def test_sources_that_would_share_a_folder_are_refused(names, message):
    recipe = load_recipe("laptop")
    more = tuple(SourceConfig(name, location=f"/{name}", domain="prose", licence="MIT") for name in names)
    corpus = replace(recipe.corpus, sources=(*recipe.corpus.sources, *more))
    with pytest.raises(RecipeError, match=message):
        validate_recipe(replace(recipe, corpus=corpus))
    with pytest.raises(CorpusError, match=message):
        raw_step(corpus)


def test_a_recipe_is_checked_and_overridden_by_names():
    changed = {"corpus.sources.prose.location": "/data", "corpus.sources.prose.domain": "prose"}
    recipe = load_recipe(
        "laptop", {**changed, "corpus.sources.prose.licence": "MIT", "corpus.sources.prose.fields.text": "t"}
    )
    (prose,) = (source for source in recipe.corpus.sources if source.name == "prose")
    assert prose.fields == FieldMapping(text="t") and prose.location == "/data"
    with pytest.raises(RecipeError, match=r"prose\.licence is empty"):
        validate_recipe(load_recipe("laptop", changed))


def test_identity_is_what_is_read_and_not_from_where():
    def key(changes):
        return fingerprint(without_places(apply_overrides(GOOD, changes)))

    assert key({"location": "s3://bucket/web", "max_quarantined": 0.5}) == key({})
    assert key({"fields.text": "body"}) != key({})
    assert key({"format": SourceFormat.JSONL}) != key({})


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("corpus.sources.prose.location", "s3://key:CANARY@bucket/web/*.jsonl"),
        ("corpus.sources.prose.location", "https://host/web.jsonl?X-Amz-Signature=CANARY"),
        ("tokenizer.adopt", "s3://key:CANARY@bucket/tokenizer"),
        ("validation.previous_statistics", "https://host/statistics.json?sig=CANARY"),
    ],
)
def test_a_recipe_holds_no_secrets(field, address):
    with pytest.raises(RecipeError, match=rf"{field}='.*\*\*\*.*AWS_SECRET_ACCESS_KEY") as told:
        load_recipe("laptop", {field: address})
    assert "CANARY" not in str(told.value)
