"""What all kinds share while a job runs: its random streams, its documents, its choice of problem and effort."""

from dataclasses import dataclass
from functools import cached_property
from random import Random

from k2model.corpus.documents import content_id, make_document
from k2model.corpus.markup import Segment
from k2model.corpus.synthesis.config import SynthesisConfig, TeacherKind
from k2model.corpus.synthesis.conversation import Sample
from k2model.corpus.synthesis.problems import Problem, family
from k2model.corpus.synthesis.verify import Fault

EFFORT_ORDER = ("low", "medium", "high")


@dataclass(frozen=True)
class Subject:
    """What a document is about: what it is filed under and on which side of the held-out split."""

    family: str
    domain: str
    licence: str
    origin: str
    key: str
    heldout: bool = False

    @classmethod
    def of(cls, problem: Problem) -> "Subject":
        heldout = problem.side == "heldout"
        return cls(problem.family, problem.domain, problem.licence, problem.origin, problem.key, heldout)


class Job:
    """A configuration at work. Talk `index` draws from streams of its own, so that parts need not know each other."""

    def __init__(self, config: SynthesisConfig):
        self.config = config

    def rng(self, index: int, purpose: str = "") -> Random:
        return Random(f"{self.config.seed}:{self.config.name}:{index}:{purpose}")

    def effort(self, rng: Random) -> str:
        return rng.choices(EFFORT_ORDER, weights=self._weights)[0]

    def efforts(self, rng: Random) -> list[str]:
        """Which of the three efforts a question is asked at, so that the documents come in the mix's proportions."""
        top = max(self._weights)
        chosen = zip(EFFORT_ORDER, self._weights, strict=True)
        return [effort for effort, weight in chosen if rng.random() < weight / top]

    def problem(self, number: int, families: tuple[str, ...], total: int = 0) -> Problem:
        """Problem `number` of the `total` that the job needs (0 = one a talk), the families taking turns."""
        name = families[number % len(families)]
        size = -(-(total or self.config.count) // len(families))
        return family(name).draw(self._stream, number // len(families), size)

    def sample(self, subject: Subject, segments: list[Segment], fault: Fault | None = None) -> Sample:
        config = self.config
        asked = config.teacher == TeacherKind.ENDPOINT
        origin = f"{subject.origin}, answered by {config.endpoint.model}" if asked else subject.origin
        licence = config.licence or subject.licence
        made = make_document(config.source, subject.domain, licence, origin, segments, key=subject.key)
        return Sample(made, subject.heldout, *(fault or Fault("")))

    @cached_property
    def _stream(self) -> int:
        """The seed of the families: jobs of one seed draw different problems."""
        return int(content_id(str(self.config.seed), self.config.name)[:8], 16)

    @cached_property
    def _weights(self) -> tuple[float, float, float]:
        mix = self.config.efforts
        return mix.low, mix.medium, mix.high
