"""A small lifecycle in a store, in the formats that the rooms agreed on, with known numbers: what a branch, a
continuation and an adopted model look like to whoever reads records. Nothing is trained here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Step, Store, make
from k2model.evals.items import Grade, ItemResult, write_items
from k2model.evals.scores import by_score, row_of, write_scores

ASKED = 24  # items of a score
LOG = 5  # steps of a phase
TOKENS = 1_000  # of a phase
PHASE = {
    "kind": "midtrain", "sequence_length": 128, "steps": LOG, "rope_theta": 1e4,
}  # fmt: skip
SOURCE = {"domain": "", "licence": "", "documents": 100}


@dataclass
class Life:
    """`made`: artifacts by what they are called in the lifecycle."""

    store: Store
    made: dict[str, ArtifactRef] = field(default_factory=dict)

    def artifact(
        self, name: str, config: Mapping[str, Any], inputs: Mapping[str, str], files: Mapping[str, Any] = {},
        kind: str = "", **stats: float,
    ) -> ArtifactRef:  # fmt: skip
        """`inputs`: names by role. A file is JSON, unless it is given as bytes."""

        def produce(folder: Path) -> dict[str, float]:
            (folder / "name.txt").write_text(name)
            for path, content in files.items():
                (folder / path).parent.mkdir(exist_ok=True, parents=True)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                (folder / path).write_bytes(data)
            return stats

        step = kind or name.rpartition("/")[2].removeprefix("batch_")
        read = {role: self.made[one] for role, one in inputs.items()}
        self.made[name] = make(self.store, Step(Identity(step, "1", dict(config), read), produce))
        return self.made[name]

    def data(self, prefix: str = "", files: tuple[str, ...] = ("notes",)) -> None:
        """A corpus of two sources that the project builds, and of `files`, with tokenizer and tokens."""
        told = {name: [{"path": f"{name}.jsonl", "size": 5_000, "digest": f"sha256:{name:0<64}"}] for name in files}
        sources = [SOURCE | {"name": name} for name in (*(() if prefix else ("chat/sums", "chat/tools")), *files)]
        account = {"rows": 60, "documents": 50, "heldout": 5, "quarantined": {"empty": 5}, "damaged_files": 0}
        config = {"corpus": {"sources": [one | {"licence": "CC0-1.0", "domain": "prose"} for one in sources]},
                  "sources": {"python": "3.11.7"}, "inputs": told}  # fmt: skip
        ingested = {"ingest.json": dict.fromkeys(files, account)}
        items = {"items": "corpus_valid"} if prefix else {}
        self.artifact(f"{prefix}corpus_raw", config, items, ingested, documents=260.0)
        read = {"raw": f"{prefix}corpus_raw"}
        if prefix:
            self.artifact(f"{prefix}known_copies", {}, {"clean": f"{prefix}corpus_raw", "known_0": "corpus"})
            read["known"] = f"{prefix}known_copies"
        self.artifact(f"{prefix}corpus", {"seed": 0}, read, documents=250.0)
        self.artifact(f"{prefix}corpus_valid", {}, {"corpus": f"{prefix}corpus"}, documents=250.0)
        if not prefix:
            self.artifact("tokenizer", {"vocab_size": 300}, {"corpus": "corpus_valid"}, vocab_size=300.0)
        inputs = {"corpus": f"{prefix}corpus_valid", "tokenizer": "tokenizer"}
        self.artifact(f"{prefix}tokens", {}, inputs, documents=250.0, tokens=20_000.0)

    def join(self, batch: str) -> None:
        """Corpus and tokens of the lifecycle and of a batch as one."""
        for kind, role in (("corpus_valid", "corpus"), ("tokens", "tokens")):
            self.artifact(f"joined/{kind}", {}, {role: kind, f"{role}_1": f"{batch}{kind}"}, documents=500.0)

    def adopt(self, name: str = "theirs") -> None:
        config = {"adopted": {"name": name, "source": "https://example.org/7b", "licence": "Apache-2.0"},
                  "files": {"model.safetensors": "sha256:" + "ab" * 32}}  # fmt: skip
        self.artifact(f"{name}/checkpoint", config, {}, kind="adopted_checkpoint", parameters=9.0)
        self.artifact(f"{name}/export", {}, {"checkpoint": f"{name}/checkpoint"}, kind="adopted_export")

    def phase(
        self, name: str, parent: str = "", right: int = 8, lr: float = 1e-3, tokens: str = "tokens", own: str = "",
        rows: str = "", scored: bool = True,
    ) -> None:  # fmt: skip
        """A phase called `own` in its records, with `right` of the items right. rows: those of which other phase it is
        trained on."""
        composition = {"composition.json": {"sources": {"chat/sums": {"domain": "chat", "share": 0.6},
                                                        "notes": {"domain": "prose", "share": 0.4}}}}  # fmt: skip
        rows = rows or f"{name}/sequences"
        if rows not in self.made:
            mixture = [{"source": "chat/sums", "weight": 6.0}, {"source": "notes", "weight": 4.0}]
            self.artifact(rows, {"mixture": mixture, "of": name}, {"tokens": tokens}, composition)
        row = PHASE | {"name": own or name, "parent": parent, "optimizer": {"name": "adamw", "lr": lr}}
        log = "".join(
            json.dumps({"step": n, "tokens": TOKENS * (n + 1) // LOG, "loss": 5.0 - n / LOG - right / ASKED, "lr": lr,
                        "grad_norm": 1.0, "targets": 9, "tokens_per_second": 1.0, "seconds": 1.0, "mfu": 0.1,
                        "domains": {}}) + "\n" for n in range(LOG)
        )  # fmt: skip
        inputs = {"sequences": rows} | ({"parent": f"{parent}/checkpoint"} if parent else {})
        files = {"attachments/metrics.jsonl": log.encode()}
        self.artifact(f"{name}/checkpoint", {"phase": row, "called": name}, inputs, files, tokens=float(TOKENS))
        self.artifact(f"{name}/export", {"kind": "midtrain"}, {"checkpoint": f"{name}/checkpoint"})
        if scored:
            self._scores(name, right, tokens)

    def _scores(self, name: str, right: int, tokens: str) -> None:
        results = [_result("arithmetic/think", n, Grade.RIGHT if n < right else Grade.WRONG) for n in range(ASKED)]
        results += [_result("loss/prose", n, Grade.MEASURED, 40.0 - right + n % 3) for n in range(ASKED)]
        results += [_result(f"exam_of_{name}", n, Grade.RIGHT) for n in range(3)]
        rows = [row_of(name, score, own, "Mathematics", "nats/token" if score.startswith("loss") else "accuracy")
                for score, own in by_score(results).items()]  # fmt: skip

        def produce(folder: Path) -> dict[str, float]:
            write_scores(folder / "scores.json", rows)
            write_items(folder / "items.parquet", results)
            return {}

        inputs = {
            "corpus": self.made["corpus_valid"],
            "tokens": self.made[tokens],
            "export": self.made[f"{name}/export"],
        }
        step = Step(Identity("scores", "1", {"phase": {"name": name}}, inputs), produce)
        self.made[f"{name}/scores"] = make(self.store, step)

    def release(self, *left_out: str) -> ArtifactRef:
        """Of all that was made until now."""
        inputs = {name.replace("/", "."): name for name in self.made if name not in left_out}
        report = self.artifact("report", {}, inputs)
        assert report.kind == "report"
        return self.artifact("release", {"recipe": {"name": "garden"}}, inputs | {"report": "report"}, {"a.txt": {}})


def _result(score: str, number: int, grade: Grade, value: float | None = None) -> ItemResult:
    worth = float(grade is Grade.RIGHT) if value is None else value
    item = f"{score}-{number}"
    return ItemResult(score, item, item, f"ask {item}", "said", "said", "4", grade, worth, tokens=10)
