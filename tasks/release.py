"""What a finished lifecycle leaves for people: report, release, and the table on the terminal."""

from flytekit import task

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe import Recipe
from k2model.registry import Registration
from k2model.reporting import LifecycleResult, PhaseResult
from tasks._platform import DATA_IMAGE, WITH_DECK, cached, data_task, show_deck
from tasks._types import Artifact


@task(container_image=DATA_IMAGE)
def assemble(
    recipe: Recipe,
    data: list[ArtifactRef],
    sequences: list[ArtifactRef],
    checkpoints: list[ArtifactRef],
    exports: list[ArtifactRef],
    scores: list[ArtifactRef],
    registrations: list[Registration],
) -> LifecycleResult:
    """Put the references of all steps into one result: `data` in the order in which it was made, each
    other list in the order of the recipe's phases."""
    raw, corpus, valid, tokenizer, tokens = data
    parts = zip(recipe.phases, sequences, checkpoints, exports, scores, registrations, strict=True)
    phases = tuple(PhaseResult(*part) for part in parts)
    return LifecycleResult(recipe, raw, corpus, valid, tokenizer, tokens, phases)


@data_task(cache=cached("report"), **WITH_DECK)
def report(store: StoreRef, result: LifecycleResult) -> Artifact:
    from k2model.reporting import build_report

    opened = store.open()
    reference = build_report(opened, result)
    show_deck("Report", (opened.fetch(reference) / "attachments" / "index.html").read_text(encoding="utf-8"))
    return reference


@data_task(cache=cached("release"))
def release(store: StoreRef, result: LifecycleResult) -> Artifact:
    from k2model.release import build_release

    return build_release(store.open(), result)


@task(container_image=DATA_IMAGE)
def summarize(
    store: StoreRef, tracking_uri: str, result: LifecycleResult, report: ArtifactRef, release: ArtifactRef
) -> str:
    """Print the scores and say where everything is; never cached, so that a run without work says it too."""
    from k2model.reporting import print_summary

    return print_summary(store.open(), tracking_uri, result, report, release)
