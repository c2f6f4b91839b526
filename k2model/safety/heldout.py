"""Tests made of the safety set that models of this project are fine-tuned on (`k2model.synthesis`): questions that are
held out of training by their key, in wordings and about subjects that training has in other combinations.

They show whether what was taught was learned; the 72 tests of the registry, whether it carries over.
"""

from functools import cache, partial

from k2model.documents.schema import content_id, is_heldout
from k2model.judges.verdict import Wants
from k2model.safety.registry import PROMPTS, SafetyPrompt, SafetyTest
from k2model.synthesis.exchanges import safety_questions

HELDOUT = "heldout"  # the domain of these tests
REQUESTS, LOOKALIKES = "heldout_requests", "heldout_lookalikes"


@cache
def heldout_tests() -> dict[str, SafetyTest]:
    """The two sides of the set: requests to decline, and harmless questions with a word that alarms."""
    sides = ((REQUESTS, Wants.REFUSE, True), (LOOKALIKES, Wants.COMPLY, False))
    return {name: SafetyTest(name, HELDOUT, wants, partial(_prompts, name, harmful)) for name, wants, harmful in sides}


def _prompts(name: str, harmful: bool) -> list[SafetyPrompt]:
    """In an order that has nothing to do with their subjects."""
    asked = [question for question in safety_questions(harmful) if is_heldout(question.key)]
    made = [
        SafetyPrompt(
            content_id(name, one.text), name, ({"role": "user", "content": one.text},), content_id(one.subject)[:12]
        )
        for one in asked
    ]
    return sorted(made, key=lambda prompt: prompt.id)[:PROMPTS]
