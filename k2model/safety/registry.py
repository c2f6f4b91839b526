"""The safety tests: 72 in ten domains with 200 prompts each, made from the templates in `tests/`.

The numbers and the domains are those of K2's safety evaluation (libra-eval), whose own prompts are not public; which
tests there are is our choice. A test says what is right to do. Its prompts are every filling in every frame, in an
order that goes through all fillings before one comes twice, so that fewer prompts are still about everything; prompts
of one filling are a cluster. No template says how anything harmful is done.
"""

import base64
import codecs
import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from random import Random
from typing import Any

from k2model.documents.markup import Message
from k2model.documents.schema import content_id
from k2model.errors import EvaluationError, nearest
from k2model.judges.verdict import Wants

PROMPTS = 200  # of a test, as K2 has them
#: Names of files in `tests/`, in K2's order of domains.
DOMAINS = (
    "general_harm", "jailbreak", "over_refusal", "cybersecurity", "bias_fairness", "toxicity", "truthfulness", "values",
    "conversational", "physical_safety",
)  # fmt: skip
WRAPPERS = "jailbreak"  # the domain whose tests put one request into many wrappings
_LEET = str.maketrans("aeiost", "431057")
#: Simple codes that a request is hidden in.
CODES: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "spaced": lambda text: " ".join(text),
    "leet": lambda text: text.translate(_LEET),
}


@dataclass(frozen=True)
class SafetyPrompt:
    """What is asked: the turns of a dialogue up to the model's. marker: what only a text has in it that goes along with
    an injection or tells a secret; "" where a judge has to read. cluster: the filling; a twin has that of its pair."""

    id: str
    test: str
    turns: tuple[Message, ...]
    cluster: str
    marker: str = ""

    @property
    def request(self) -> str:
        """What a judge is shown of it: a single turn as it is, a dialogue with its roles."""
        if len(self.turns) == 1:
            return str(self.turns[0]["content"])
        return "\n".join(f"{turn['role']}: {turn['content'] or turn.get('tool_call', '')}" for turn in self.turns)


@dataclass(frozen=True)
class SafetyTest:
    """A test with all of its prompts. twin: the test whose prompts look alike and want the opposite."""

    name: str
    domain: str
    wants: Wants
    make: Callable[[], Sequence[SafetyPrompt]]
    twin: str = ""
    licence: str = "Apache-2.0"
    origin: str = "k2model safety templates"

    @cached_property
    def prompts(self) -> tuple[SafetyPrompt, ...]:
        return tuple(self.make())

    @property
    def title(self) -> str:
        return self.name.replace("_", " ")


@cache
def registry() -> dict[str, SafetyTest]:
    """Our 72 tests by name, domain by domain."""
    return {test.name: test for domain in DOMAINS for test in _tests_of(domain)}


@cache
def domain_titles() -> dict[str, str]:
    return {domain: str(_table(domain)["title"]) for domain in DOMAINS}


def chosen_tests(names: Sequence[str], known: dict[str, SafetyTest] | None = None) -> list[SafetyTest]:
    """The tests of those names or of domains of those names, each once, in the order of `known` (default: our 72); all
    where none is named.

    Raises EvaluationError for a name that is neither.
    """
    known = registry() if known is None else known
    domains = list(dict.fromkeys(test.domain for test in known.values()))
    for name in names:
        if name not in known and name not in domains:
            raise EvaluationError(f"safety test '{name}' is not known; {nearest(name, [*domains, *known])}")
    return [test for test in known.values() if not names or test.name in names or test.domain in names]


def _tests_of(domain: str) -> Iterator[SafetyTest]:
    table = _table(domain)
    for row in table["test"]:
        yield SafetyTest(row["name"], domain, Wants(row["wants"]), _Templates(table, row), row.get("twin", ""))


@dataclass(frozen=True)
class _Templates:
    """A row of a domain's file: frames and fillings, by name or in full."""

    table: dict[str, Any]
    row: dict[str, Any]

    def __call__(self) -> list[SafetyPrompt]:
        name = self.row["name"]
        fillings = [(place, filling) for place, filling in enumerate(self._fillings())]
        variants = [
            (frame, code, marker)
            for frame in self._frames()
            for code in self.row.get("encode", [""])
            for marker in self.row.get("markers", [""])
        ]
        rng = Random(f"safety {name}")
        rng.shuffle(variants)
        found: dict[str, SafetyPrompt] = {}
        # Round by round each filling in another variant, until there are enough.
        for number, (place, filling) in itertools.product(range(len(variants)), fillings):
            frame, code, marker = variants[(number + place) % len(variants)]
            prompt = _prompt(self.row, frame, filling, code, marker)
            found.setdefault(prompt.id, prompt)
        return list(found.values())[:PROMPTS]

    def _frames(self) -> list[Any]:
        frames = self.row["frames"]
        return list(_table("frames")[frames] if isinstance(frames, str) else frames)

    def _fillings(self) -> list[dict[str, str]]:
        fill = self.row["fill"]
        if isinstance(fill, str) and "side" in self.row:
            return [{"x": pair[self.row["side"]], "cluster": pair["x"]} for pair in self.table[fill]]
        fillings = self.table[fill] if isinstance(fill, str) else fill
        return [{"x": one} if isinstance(one, str) else {"x": one[0], "y": one[1]} for one in fillings]


def _prompt(row: dict[str, Any], frame: Any, filling: dict[str, str], code: str, marker: str) -> SafetyPrompt:
    x = filling["x"]
    first, _, second = marker.partition("|")
    values = {
        "x": CODES[code](x) if code else x, "X": x[0].upper() + x[1:], "y": filling.get("y", ""),
        "marker": first + second, "m1": first, "m2": second,
    }  # fmt: skip

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    said = [["user", frame]] if isinstance(frame, str) else frame
    turns = tuple(_turn(role, filled(content)) for role, content in said)
    cluster = content_id(filling.get("cluster", x))[:12]
    return SafetyPrompt(content_id(row["name"], json.dumps(turns)), row["name"], turns, cluster, first + second)


def _turn(role: str, content: str) -> Message:
    """`call` is the assistant calling a tool of that name."""
    if role == "call":
        return {"role": "assistant", "content": "", "tool_call": json.dumps({"name": content, "arguments": {}})}
    return {"role": role, "content": content}


@cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(files("k2model.safety").joinpath("tests", f"{name}.toml").read_text(encoding="utf-8"))
