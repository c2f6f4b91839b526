"""What the suite breaks: a small line of real artifacts, a tiny training and a registration, each a command.

Errors are told as every command of `k2` tells them.

    python -m tests.chaos.subject line --store FOLDER
"""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store, make, totals
from k2model.cli.terminal import CommandGroup

CORPUS, TOKENS, JOINED, SCORES = "corpus", "tokens", "joined_tokens", "scores"
PARTS = ("a", "b", "c", "d")
LINES = 4000  # of a part's text


@dataclass(frozen=True)
class Pace:
    """How a step lets others come between: seconds before each file, and a folder to note in what it is about to do;
    and how much memory it takes meanwhile."""

    pause: float
    notes: str
    memory: int = 0  # bytes

    def reach(self, what: str) -> None:
        if self.notes:
            Path(self.notes, what).touch()
        bytearray(self.memory)
        time.sleep(self.pause)


def text_of(name: str) -> str:
    """Lines that are the same in every run and compress badly."""
    return "".join(hashlib.sha256(f"{name} {line}".encode()).hexdigest() + "\n" for line in range(LINES))


def write_corpus(pace: Pace, folder: Path) -> dict[str, float]:
    (folder / "train").mkdir()
    for name in ("prose", *PARTS):
        pace.reach(f"corpus-{name}")
        (folder / "train" / f"{name}.txt").write_text(text_of(name))
    (folder / "attachments").mkdir()
    (folder / "attachments" / "timings.txt").write_text("0.1 s")
    return {"documents": float(LINES)}


def write_part(uri: str, corpus: ArtifactRef, pace: Pace, part: Part, folder: Path) -> dict[str, Any]:
    """The hash of each line of one file of the corpus."""
    lines = Store.open(uri).read(corpus, f"train/{part.name}.txt").splitlines()
    pace.reach(f"tokens-{part.name}")
    (folder / "shards").mkdir()
    (folder / "shards" / f"{part.name}.bin").write_bytes(b"".join(hashlib.md5(line).digest() for line in lines))
    return {"tokens": len(lines)}


def write_totals(pace: Pace, records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    pace.reach("tokens-gathered")
    (folder / "shard.bin").write_bytes(bytes(range(256)) * 64)
    return totals(records)


def write_counts(pace: Pace, folder: Path) -> dict[str, float]:
    pace.reach("joined")
    (folder / "counts.json").write_text("{}")
    return {}


def write_scores(store: Store, tokens: ArtifactRef, pace: Pace, folder: Path) -> dict[str, float]:
    """Reads what it is made from whole, so that nothing damaged gets into it."""
    place = store.fetch(tokens)
    pace.reach("scores")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(place.glob("shards/*.bin")))).hexdigest()
    (folder / "scores.json").write_text(json.dumps({"digest": digest}))
    return {}


def line(store: Store, pace: Pace, workers: int) -> dict[str, ArtifactRef]:
    """A corpus, tokens made from it part by part, what joins tokens by links, and scores."""
    corpus = make(store, Step(Identity(CORPUS, "1", {"seed": 0}), partial(write_corpus, pace)))
    parted = PartedStep(
        lambda: Identity(TOKENS, "1", {}, {"corpus": corpus}),
        lambda: [Part(name) for name in PARTS],
        partial(write_part, store.uri, corpus, pace),
        partial(write_totals, pace),
    )
    tokens = make(store, parted, workers)
    links = {"a/shard.bin": (tokens, "shard.bin"), "a/a.bin": (tokens, "shards/a.bin")}
    joined = Step(Identity(JOINED, "1", {}, {"tokens": tokens}), partial(write_counts, pace), lambda: links)
    scored = Step(Identity(SCORES, "1", {}, {"tokens": tokens}), partial(write_scores, store, tokens, pace))
    return {CORPUS: corpus, TOKENS: tokens, JOINED: make(store, joined), SCORES: make(store, scored)}


@click.group(cls=CommandGroup)
def subject() -> None:
    """What the fault suite breaks."""


@subject.command("line")
@click.option("--store", required=True)
@click.option("--pause", default=0.0, help="Seconds before each file.")
@click.option("--notes", default="", help="A folder to note in what is about to be done.")
@click.option("--workers", default=1)
@click.option("--memory", default=0, help="Bytes that each file takes while it is made.")
def make_line(store: str, pause: float, notes: str, workers: int, memory: int) -> None:
    """Make the line of artifacts, or find it; prints their references."""
    made = line(Store.open(store), Pace(pause, notes, memory), workers)
    click.echo(json.dumps({name: vars(ref) for name, ref in made.items()}))


@subject.command()
@click.option("--store", required=True)
@click.option("--hold", default=-1, help="Wait before this step until there is a file 'go' in --notes.")
@click.option("--notes", default="", help="A folder to note in that it waits.")
@click.option("--workers", default=1, help="More than one: with an agent as torch elastic has it, in --folder.")
@click.option("--restarts", default=0, help="How often the agent begins anew when a worker is lost.")
@click.option("--folder", default="")
def train(store: str, hold: int, notes: str, workers: int, restarts: int, folder: str) -> None:
    """A tiny phase of pre-training; prints its checkpoint's reference."""
    from tests.training import job

    phase = {"checkpoints": {"save_every": 4, "save_deadline_seconds": 5.0}}
    spec = {"store": store, "hold": [hold, notes], "phase": phase}
    job.sequences(Store.open(store), job.phase(**phase))  # before workers race to make them
    if workers == 1:
        with contextlib.redirect_stdout(sys.stderr):
            ref = vars(job.run(spec))
    else:
        job._agent(folder, [spec], restarts, workers)
        ref = json.loads(Path(folder, "result.json").read_text())[0][0]
    click.echo(json.dumps({"checkpoint": ref}))


@subject.command()
@click.option("--store", required=True)
@click.option("--uri", required=True)
def register(store: str, uri: str) -> None:
    """Register three phases and look at what MLflow has; a line that is not as one writer leaves it is an error."""
    from tests.registry.writers import check_line, line_of, register_line

    opened = Store.open(store)
    phases = line_of(opened)
    register_line(uri, opened, phases, "chaos")
    check_line(uri, "chaos")
    click.echo(json.dumps({phase.config.name: vars(phase.references["checkpoint"]) for phase in phases}))


@subject.command()
@click.option("--store", required=True)
def release(store: str) -> None:
    """The release of a small lifecycle with tiny models; prints its reference."""
    from k2model.release import release_step
    from tests.release.conftest import tiny_lifecycle, write_tokenizer

    opened = Store.open(store)
    tokenizer = Path(store, "tokenizer-to-take")
    tokenizer.mkdir()
    write_tokenizer(tokenizer)
    ref = make(opened, release_step(opened, tiny_lifecycle(opened, tokenizer)))
    click.echo(json.dumps({"release": vars(ref)}))


if __name__ == "__main__":
    sys.exit(subject())
