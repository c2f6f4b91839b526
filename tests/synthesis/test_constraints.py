"""Every kind of constraint on a reply that keeps it and one that breaks it, both written by hand."""

from random import Random

import pytest

from k2model.synthesis.constraints import KINDS, Constraint, compatible, draw
from k2model.synthesis.following import compose, constraint_fault, topics

#: kind -> (parameters, a reply that keeps it, one that breaks it)
CASES = {
    "at-least-words": ({"n": 3}, "one two three", "one two"),
    "at-most-words": ({"n": 3}, "one two three", "one two three four"),
    "words-between": ({"low": 2, "high": 3}, "one two", "one"),
    "at-most-characters": ({"n": 5}, "abcde", "abcdef"),
    "sentences": ({"n": 2}, "Dr. Vale came by train. She left!", "One. Two? Three."),
    "paragraphs": ({"n": 2}, "One.\n\nTwo.", "One.\nTwo."),
    "bullets": ({"n": 2}, "So:\n- a\n- b", "- a\n- b\n- c"),
    "numbered": ({"n": 2}, "1. a\n2. b", "1. a\n3. b"),
    "sections": ({"n": 2}, "SECTION 1\na\nSECTION 2\nb", "SECTION 2\na\nSECTION 1\nb"),
    "two-versions": ({}, "One.\n******\nTwo.", "One.\n******\nOne."),
    "contains": ({"text": "river"}, "The River flows.", "The rivers flow."),
    "contains-exactly": ({"text": "river", "n": 2}, "A river, a River.", "A river, a river, a river."),
    "avoids": ({"text": "water"}, "Watermelon.", "Some water."),
    "avoids-letter": ({"text": "z"}, "No such letter.", "Zebra."),
    "lower-case": ({}, "all low, 1 too.", "Not all low."),
    "upper-case": ({}, "ALL UP, 1 TOO.", "NOT ALL Up."),
    "capital-words": ({"n": 2}, "This IS VERY good.", "This IS good, I."),
    "starts-with": ({"text": "In short:"}, "In short: yes.", "in short: yes."),
    "title": ({}, "<<Rain>>\nIt falls.", "Rain <<title>>\nIt falls."),
    "ends-with": ({"text": "That is all."}, "So it is. That is all.", "That is all. Or not."),
    "postscript": ({}, "Yes.\nP.S. And no.", "P.S. And no.\nYes."),
    "quoted": ({}, '"All of it."', '"Half" of it.'),
    "no-commas": ({}, "None here.", "One, here."),
    "no-digits": ({}, "None here.", "1 here."),
    "placeholders": ({"n": 2}, "Dear [name], of [place].", "Dear [name]."),
    "highlights": ({"n": 1}, "It is *so* good.", "It is **so** good."),
    "json-keys": ({"keys": ["a", "b"]}, '{"a": "x", "b": "y"}', '{"b": "y", "a": "x"}'),
}


def test_every_kind_has_a_case_and_there_are_enough():
    assert set(CASES) == set(KINDS) and len(KINDS) >= 15


@pytest.mark.parametrize("kind", KINDS)
def test_checks_by_hand(kind):
    parameters, kept, broken = CASES[kind]
    constraint = Constraint(kind, parameters)
    assert constraint.holds(kept) and not constraint.holds(broken)
    assert not constraint.holds("") or kind in ("avoids",)
    assert all(str(value) in constraint.instruction for value in parameters.values() if not isinstance(value, list))


def test_an_empty_reply_keeps_nothing():
    assert not any(Constraint(kind, CASES[kind][0]).holds("  ") for kind in KINDS)
    assert constraint_fault((Constraint("avoids", {"text": "water"}),), " ").reason == "empty_reply"


def test_broken_constraints_are_named():
    constraints = (Constraint("at-most-words", {"n": 2}), Constraint("no-commas", {}), Constraint("no-digits", {}))
    fault = constraint_fault(constraints, "one, two three")
    assert fault.reason == "constraint_broken"
    assert fault.detail == "Use at most 2 words.; Do not use any comma."


def test_drawn_constraints_are_compatible_and_instructions_distinct():
    rng = Random(0)
    for _ in range(300):
        drawn = draw(rng, tuple(KINDS), 4)
        assert 1 <= len(drawn) <= 4
        assert all(compatible(a.kind, b.kind) for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(compatible(a, b) == compatible(b, a) for a in KINDS for b in KINDS)
    assert not compatible("lower-case", "upper-case") and not compatible("json-keys", "bullets")


def test_composed_texts_keep_their_constraints_almost_always():
    rng, kept, total = Random(1), 0, 1000
    for number in range(total):
        constraints = draw(rng, tuple(KINDS), 1 + number % 4)
        kept += constraint_fault(constraints, compose(rng.choice(list(topics())), constraints, rng)) is None
    assert kept >= 0.97 * total
