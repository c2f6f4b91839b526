"""The step that has a judge read answers; kind `safety`: verdicts, scores, and how far that judge can be believed.

Nothing is asked of the model again, whoever judges. A language model's calls are kept in the store, so that a judging
that was cut short goes on where it was, and each artifact carries the calls that its verdicts came from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.artifacts import ArtifactRef, Identity, Step, Store, read_json
from k2model.artifacts.outside import remedy
from k2model.documents.tables import read_table
from k2model.errors import CorruptArtifact, EvaluationError
from k2model.judges.agreement import BAR, MOST_UNSCORED, Agreement, agreements, meets_bar
from k2model.judges.kept import calls_of, kept_calls
from k2model.judges.labelled import OURS, PEOPLE, LabelledPair, human_labels, labelled_pairs, labels_digest
from k2model.judges.opening import identity_of, open_judge
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Judge, Judgement, Verdict
from k2model.recipe.safety import JudgeConfig
from k2model.safety.answers import Answer, read_answers
from k2model.safety.rows import SafetyRow, Sample, score_rows
from k2model.versions import STEP_VERSIONS

RESULT, VERDICTS, CALLS = "safety.json", "verdicts.parquet", "attachments/judge.jsonl"
_LABELS = ("refuses", "harmful")
_COLUMNS = [f"{part}_{label}" for part in ("thinking", "answer") for label in _LABELS]
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("prompt", "effort", "problem")] + [(name, pa.bool_()) for name in _COLUMNS]
)


class JudgeUnavailable(EvaluationError):
    """A judge did not answer; `samples` are those that it has judged, for whoever shows a part of the result."""

    def __init__(self, message: str, samples: Sequence[Sample] = ()) -> None:
        super().__init__(message)
        self.samples = tuple(samples)


@dataclass(frozen=True)
class SafetyResult:
    """What stands in `safety.json`. agreement: by the labelled data it was measured on."""

    judge: Mapping[str, Any]
    agreement: Mapping[str, Sequence[Agreement]]
    statistics: Mapping[str, int]
    rows: Sequence[SafetyRow]

    @property
    def by_rules(self) -> bool:
        return self.judge["name"] == "rules"

    @property
    def feeds_gates(self) -> bool:
        """Rules do, since everybody can read them; a language model where it agrees well enough with our labels."""
        return self.by_rules or meets_bar(self.agreement[OURS])

    def row(self, score: str) -> SafetyRow | None:
        return next((row for row in self.rows if row.score == score), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "judge": dict(self.judge),
            "agreement": {on: [one.to_dict() for one in those] for on, those in self.agreement.items()},
            "feeds_gates": self.feeds_gates,
            "statistics": dict(self.statistics),
            "rows": [row.to_dict() for row in self.rows],
        }


def safety_step(store: Store, judge: JudgeConfig, answers: ArtifactRef, data: str = "") -> Step:
    """Judge answers; `data` is a folder of packages with people's labels, if any.

    To make it raises JudgeUnavailable where the judge leaves answers without a verdict since it is down: nothing is
    stored then, what it said is kept in its record, and running again asks for the rest. Raises EvaluationError and
    TeacherError for a judge that cannot be opened.
    """
    packages = PackageFiles(data)
    people = human_labels(packages)
    read = {"judge": identity_of(judge), "labels": labels_digest(), "people": packages.digests}

    def produce(folder: Path) -> dict[str, float]:
        with kept_calls(calls_of(store, judge)) as record:
            opened = open_judge(judge, record)
            samples = judged(opened, read_answers(store, answers))
            result = result_of(opened, samples, people)
            calls = "".join(opened.calls([one.answer.case for one in samples if one.answer.complete]))
        (folder / RESULT).write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
        _write_verdicts(folder / VERDICTS, samples)
        if calls:
            (folder / CALLS).parent.mkdir()
            (folder / CALLS).write_text(calls, encoding="utf-8")
        return {row.score: row.value for row in result.rows if row.score.count("/") == 1}

    return Step(Identity("safety", STEP_VERSIONS["safety"], read, {"answers": answers}), produce)


def judged(judge: Judge, answers: Sequence[Answer]) -> list[Sample]:
    """The answers with their verdicts; what did not come to an end has none, and is not shown to the judge. Raises
    JudgeUnavailable where some are left without since the judge is down."""
    verdicts = iter(judge.verdicts([one.case for one in answers if one.complete]))
    samples = [Sample(answer, next(verdicts) if answer.complete else Verdict()) for answer in answers]
    left = [one.verdict.problem for one in samples if one.verdict.unanswered]
    if left:
        raise JudgeUnavailable(
            f"judge {judge.identity['name']} left {len(left)} of {len(samples)} answers without a verdict "
            f"({left[0]}). What it said is recorded: start it and run again, only the rest is asked",
            [one for one in samples if not one.verdict.unanswered],
        )
    return samples


def result_of(judge: Judge, samples: Sequence[Sample], people: Sequence[LabelledPair] = ()) -> SafetyResult:
    """Scores beside the judge's agreement with labelled answers, which is measured here. Raises JudgeUnavailable."""
    measured = {OURS: labelled_pairs()} | ({PEOPLE: tuple(people)} if people else {})
    agreement = {}
    for on, pairs in measured.items():
        verdicts = judge.verdicts([pair.case for pair in pairs])
        if any(one.unanswered for one in verdicts):
            problem = next(one.problem for one in verdicts if one.unanswered)
            raise JudgeUnavailable(
                f"judge {judge.identity['name']} did not answer while its agreement was measured ({problem}); "
                "start it and run again, only the rest is asked",
                samples,
            )
        agreement[on] = agreements(pairs, verdicts)
    malformed = sum(one.verdict.malformed for one in samples)
    statistics = {"samples": len(samples), "malformed": malformed}
    return SafetyResult(judge.identity, agreement, statistics, score_rows(samples))


class _Judge(TypedDict):
    name: str


class _Stated(TypedDict):
    judge: _Judge
    agreement: dict[str, list[Agreement]]
    statistics: dict[str, int]
    rows: list[SafetyRow]


def read_safety(store: Store, ref: ArtifactRef) -> SafetyResult:
    """The result of an artifact `safety`."""
    content = read_json(_Stated, store, ref, RESULT)
    if OURS not in content["agreement"]:
        raise CorruptArtifact(
            f"{ref.uri}/{RESULT} does not say how far the judge agrees with '{OURS}'. {remedy(ref.uri)}"
        )
    return SafetyResult(content["judge"], content["agreement"], content["statistics"], content["rows"])


def read_samples(store: Store, ref: ArtifactRef) -> list[Sample]:
    """The answers and verdicts of an artifact `safety`, in the order they were asked."""
    (answers,) = (source for source in store.record(ref)["inputs"].values() if source["kind"] == "safety_answers")
    said = read_answers(store, _input(store, answers))
    table = read_table(store.read(ref, VERDICTS), SCHEMA, f"{ref.uri}/{VERDICTS}").to_pylist()
    return [Sample(answer, _verdict(row)) for answer, row in zip(said, table, strict=True)]


def check_judge(phase: str, result: SafetyResult) -> None:
    """Raises EvaluationError where the judge of a result may not feed a gate of the phase."""
    if result.feeds_gates:
        return
    told = "; ".join(f"{one.label}: {one.told}" for one in result.agreement[OURS])
    raise EvaluationError(
        f"a gate of phase '{phase}' is on a safety score of judge {result.judge['name']}, which agrees too little with "
        f"labelled answers to decide it: kappa must be at least {BAR:.2f} at the lower end of its interval, on both "
        f"labels of answers, with at most {MOST_UNSCORED:.0%} of the pairs unscored ({told}). Choose "
        "another judge or wording (k2 safety judges), or leave the gate out; "
        "nothing needs to be trained again"
    )


def _input(store: Store, source: Mapping[str, Any]) -> ArtifactRef:
    from k2model.artifacts.record import ref_of

    for record in reversed(store.records(str(source["kind"]))):
        if record["digest"] == source["digest"]:
            return ref_of(record, store.uri)
    raise EvaluationError(f"{store.uri} has no {source['kind']} {str(source['digest'])[:16]} any more; judge anew")


def _write_verdicts(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        {
            "prompt": one.answer.prompt,
            "effort": one.answer.effort,
            "problem": one.verdict.problem,
            **_labels(one.verdict),
        }
        for one in samples
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def _labels(verdict: Verdict) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {}
    for part in ("thinking", "answer"):
        said = getattr(verdict, part)
        found |= {f"{part}_{label}": None if said is None else asdict(said)[label] for label in _LABELS}
    return found


def _verdict(row: Mapping[str, Any]) -> Verdict:
    def part(name: str) -> Judgement | None:
        labels = [row[f"{name}_{label}"] for label in _LABELS]
        return None if labels[0] is None else Judgement(*labels)

    return Verdict(part("thinking"), part("answer"), problem=row["problem"])
