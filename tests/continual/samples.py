"""Corpora, models and batches of a line, as its ledger names them; none of their artifacts is made."""

import hashlib
from collections.abc import Mapping

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.entries import TurnEnded
from k2model.continual.state import LIFECYCLE, Batch, Began, Corpus, Ended, Model, Outcome, Standing
from k2model.recipe.continual import BatchKind


def reference(store: Store, kind: str, of: str) -> ArtifactRef:
    key = hashlib.sha256(f"{kind} {of}".encode()).hexdigest()
    digest = hashlib.sha256(f"content of {key}".encode()).hexdigest()
    return ArtifactRef(kind, f"{store.uri}/{kind}/{key[:16]}", digest, key, {"tokens": 1024.0})


def corpus(store: Store, name: str = LIFECYCLE) -> Corpus:
    return Corpus(name, *(reference(store, kind, name) for kind in ("corpus_clean", "corpus_valid", "tokens")))


def model(store: Store, turn: int = 0, corpora: tuple[str, ...] = (LIFECYCLE,)) -> Model:
    made = {f"tuned/{kind}": reference(store, kind, str(turn)) for kind in ("checkpoint", "export", "scores")}
    return Model(turn, made, corpora, {"tuned": {"chat/arithmetic": 512.0 + turn}}, version=turn and 6 + turn)


def batch(store: Store, name: str, standing: Standing = Standing.WAITING, kind: BatchKind = BatchKind.TUNED) -> Batch:
    accepted = standing is Standing.WAITING
    return Batch(
        name, kind, hashlib.sha256(name.encode()).hexdigest(), standing,
        reason="" if accepted else "it is a copy", tokens=1000 if accepted else 0,
        corpus=corpus(store, f"batch/{name}") if accepted else None, improves=("arithmetic/*",),
    )  # fmt: skip


def began(turn: int, *batches: str, champion: int = 0, kind: BatchKind = BatchKind.TUNED) -> Began:
    return Began(turn, kickoff(turn), kind, batches, champion)


def ended(store: Store, turn: int, outcome: Outcome, *batches: str, corpora: tuple[str, ...] = (LIFECYCLE,)) -> Ended:
    trained = outcome is not Outcome.IDLE
    challenger = model(store, turn, (*corpora, *(f"batch/{name}" for name in batches))) if trained else None
    verdict = reference(store, "verdict", str(turn)) if trained else None
    return Ended(turn, kickoff(turn), outcome, f"because of {turn}", batches, challenger, verdict, 4096 * trained)


def idle(turn: int, at: str = "") -> TurnEnded:
    return TurnEnded(Ended(turn, at or kickoff(turn), Outcome.IDLE, "nothing waits"))


def kickoff(turn: int) -> str:
    return f"2026-{1 + turn // 28:02d}-{1 + turn % 28:02d}T02:00:00Z"


def standings(batches: Mapping[str, Batch]) -> dict[str, str]:
    return {name: one.standing.value for name, one in batches.items()}
