"""Solvers against the scorers of reasoning-gym, against other libraries, and against cases worked by hand."""

import itertools
import math
import subprocess
import sys
from importlib.metadata import requires

import pytest
import sympy

from k2model.documents.families.task import SOLVER, SOLVER_DATASETS
from k2model.documents.schema import is_heldout
from k2model.errors import SynthesisError
from k2model.synthesis.problems import draw, known_families, logic, numbers, solved_families

DRAWN = 30


def drawn(name, count=DRAWN, seed=3):
    return [draw(name, seed, index, count) for index in range(count)]


def test_there_are_enough_families_of_mathematics_and_logic():
    domains = [draw(name, 0, 0, 10).domain for name in solved_families()]
    assert domains.count("mathematics") >= 12 and domains.count("logic") >= 6
    assert set(solved_families()) < set(known_families())


def test_without_the_sat_solver_only_what_needs_it_is_refused():
    script = """if True:
        import sys
        sys.modules["pycosat"] = None  # its import fails, as where it is not installed
        from k2model.errors import SynthesisError
        from k2model.synthesis.problems import draw, known_families
        for name in known_families():
            try:
                assert draw(name, 3, 7, 30).question
            except SynthesisError as error:
                print(name, error, sep=": ")
    """
    refused = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    assert [line.split(":")[0] for line in refused] == sorted(SOLVER_DATASETS)
    assert all(f"pip install {SOLVER}" in line for line in refused)
    assert SOLVER in (requires("reasoning-gym") or ())


@pytest.mark.parametrize("name", [name for name in solved_families() if name != "syllogism"])
def test_solvers_agree_with_the_scorers(name):
    for problem in drawn(name):
        assert problem.check(problem.solution.answer), (problem.question, problem.answer, problem.solution)
        assert len(problem.solution.brief) <= len("\n".join(problem.solution.steps))


@pytest.mark.parametrize("name", solved_families())
def test_a_draw_is_a_function_of_its_arguments_and_wrong_answers_fail(name):
    again = draw(name, 3, 7, DRAWN)
    problem = drawn(name)[7]
    assert (problem.key, problem.question, problem.solution) == (again.key, again.question, again.solution)
    assert not problem.check("") and not problem.check("no idea") and not problem.check(problem.answer + " or not")
    assert {p.split for p in drawn(name)} <= {"train", "heldout", "neither"}


def test_numbers_against_python_and_sympy():
    for problem in drawn("gcd") + drawn("lcm"):
        a, b = (int(text.strip(" ,.")) for text in problem.question.split(":")[1].split(".")[0].split(","))
        wanted = math.gcd(a, b) if problem.family == "gcd" else math.lcm(a, b)
        assert problem.solution.answer == str(wanted)
    for problem in drawn("prime_factorization"):
        factors = [int(factor) for factor in problem.solution.answer.split(" × ")]
        number = int(problem.question.split("of ")[1].split(".")[0])
        assert sorted(sympy.factorint(number, multiple=True)) == factors
    for problem in drawn("products"):
        expression = problem.question.split(": ")[1].split(". ")[0]
        left, right = expression.split(" * ")
        assert problem.solution.answer == str(int(left) * int(right))


def test_steps_by_hand():
    solution = numbers.gcd({"numbers": [48, 18]}, "")
    assert solution.steps == (
        "48 = 2 * 18 + 12",
        "18 = 1 * 12 + 6",
        "12 = 2 * 6 + 0",
        "The last remainder that is not zero is 6.",
    )
    assert solution.brief == "48, 18, 12, 6"
    solution = numbers.base_conversion({"source_base": 2, "target_base": 16, "source_repr": "11111"}, "")
    assert solution.answer == "1f" and solution.steps[-2] == "31 = 16 * 1 + 15, digit f"
    assert numbers.products({"expression": "12 * 34"}, "").steps == ("12 * 4 = 48", "12 * 30 = 360", "48 + 360 = 408")


@pytest.mark.parametrize(
    ("premises", "conclusion", "valid"),
    [
        (("All men are mortals", "All kings are men"), "All kings are mortals", "Yes"),  # Barbara
        (("No fish are birds", "All trout are fish"), "No trout are birds", "Yes"),  # Celarent
        (("All cats are animals", "Some animals are dogs"), "Some cats are dogs", "No"),  # undistributed middle
        (("All cats are animals", "Some cats are pets"), "Some pets are animals", "Yes"),  # Datisi
        (("Some cats are pets",), "Some pets are cats", "Yes"),
        (("All cats are animals",), "All animals are cats", "No"),
        (("All cats are animals",), "Some animals are cats", "Yes"),  # every name has a thing
        (("Some cats are not pets",), "Some pets are not cats", "No"),
    ],
)
def test_syllogisms_known_from_the_books(premises, conclusion, valid):
    metadata = {f"premise{i}": text for i, text in enumerate(premises, 1)} | {"conclusion": conclusion}
    assert logic.syllogism(metadata, "").answer == valid


def test_a_disputed_reference_is_seen():
    """reasoning-gym accepts some syllogisms whose middle term is not distributed; no trace is made of these."""
    disputed = [p for p in drawn("syllogism", 60) if not p.check(p.solution.answer)]
    assert 0 < len(disputed) < 20
    assert all(p.answer == "Yes" and p.solution.answer == "No" for p in disputed)


def test_a_path_and_a_grid_keep_their_rules():
    for problem in drawn("mini_sudoku", 10):
        rows = [line.split() for line in problem.solution.answer.splitlines()]
        blocks = [[rows[r + i][c + j] for i in (0, 1) for j in (0, 1)] for r in (0, 2) for c in (0, 2)]
        assert all(sorted(group) == ["1", "2", "3", "4"] for group in (*rows, *zip(*rows, strict=True), *blocks))
    walled = [["*", "X", "#"], ["O", "X", "O"], ["O", "O", "O"]]
    assert logic.shortest_path({"matrix": walled}, "").answer == "down down right right up up"
    closed = [["*", "X", "#"]]
    assert logic.shortest_path({"matrix": closed}, "").answer == "infeasible"


def test_the_lifecycles_heldout_content_is_on_no_training_side():
    for problem in drawn("arithmetic", 400):
        beginnings = [problem.key[:end] for end in range(3, len(problem.key) + 1, 2)]
        assert problem.split != "train" or not any(map(is_heldout, beginnings))
    numbers_of = {" ".join(sorted(p.question.split()[1:4])): p.split for p in drawn("countdown", 400)}
    for key, side in numbers_of.items():
        assert (side == "heldout") == is_heldout(f"Countdown {key}")


def test_syllogism_worlds_are_all_tried():
    """The solver's verdict against truth tables over every non-empty set of kinds of things."""
    kinds = list(itertools.product((0, 1), repeat=3))
    for problem in drawn("syllogism", 20):
        lines = [line.split(". ", 1)[1] for line in problem.question.splitlines() if line[:2] in ("1.", "2.")]
        conclusion = (
            problem.question.split("follow that:\n")[1].split("?")[0] if "follow that" in problem.question else ""
        )
        if len(lines) != 2 or not conclusion:
            continue
        statements = [logic._statement(text) for text in (*lines, conclusion)]
        terms = sorted({term for _, *pair in statements for term in pair})
        valid = True
        for mask in range(1, 2**8):
            world = [kind for i, kind in enumerate(kinds) if mask >> i & 1]
            if not all(any(kind[i] for kind in world) for i in range(3)):
                continue
            truths = [holds(statement, world, terms) for statement in statements]
            valid &= not (truths[0] and truths[1] and not truths[2])
        assert problem.solution.answer == ("Yes" if valid else "No")


def holds(statement, world, terms):
    form, metadata, predicate = statement
    s, p = terms.index(metadata), terms.index(predicate)
    both, alone = any(k[s] and k[p] for k in world), any(k[s] and not k[p] for k in world)
    return {"all": not alone, "no": not both, "some": both, "some not": alone}[form]


def test_a_mistyped_family_is_named_with_the_nearest():
    with pytest.raises(SynthesisError, match="'cuntdown' is not known; did you mean 'countdown'"):
        draw("cuntdown", 0, 0, 1)
