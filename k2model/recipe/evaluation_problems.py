"""What is wrong with what a recipe is scored on, and with the gates that read its scores."""

from k2model.errors import nearest
from k2model.recipe.continual_problems import cron_problem
from k2model.recipe.evaluation import AnswerCheck, benchmarks_problem
from k2model.recipe.repeats import repeated_of
from k2model.recipe.safety import is_safety_score
from k2model.recipe.schema import GateConfig, Recipe
from k2model.recipe.tasks import (
    CHANCE,
    CORPUS_FAMILIES,
    DEFAULT_CONTEXT,
    FAMILIES,
    LOSS,
    THOUGHT_ABOUT,
    Guess,
    domain_of,
    score_names,
)


def evaluation_problem(recipe: Recipe) -> str | None:
    """The first thing wrong with what a recipe is scored on, field and remedy named; None when nothing is."""
    evaluation, corpus = recipe.evaluation, recipe.corpus
    if evaluation.task_files:
        return "evaluation.task_files were not read; make the recipe by k2model.recipe.load_recipe, which reads them"
    for name in ("items_per_family", "retrieval_documents", "retrieval_queries", "loss_tokens", "batch_size"):
        if getattr(evaluation, name) < 1:
            return f"evaluation.{name}={getattr(evaluation, name)} must be at least 1"
    for family in evaluation.families:
        if family not in FAMILIES:
            return f"evaluation.families names '{family}', which nothing scores; {nearest(family, FAMILIES)}"
    for budget in evaluation.thinking_budgets:
        if budget < 1:
            return f"evaluation.thinking_budgets has {budget}; a budget is a number of tokens, at least 1"
    if evaluation.thinking_budgets and not set(THOUGHT_ABOUT) & set(evaluation.families):
        return (
            "evaluation.thinking_budgets has no effect: no family is asked with one; add one of "
            f"{', '.join(THOUGHT_ABOUT)} to evaluation.families, or drop it"
        )
    if CORPUS_FAMILIES.keys() & set(evaluation.families) and evaluation.items_per_family > corpus.heldout_items:
        return (
            f"evaluation.items_per_family={evaluation.items_per_family} exceeds the corpus.heldout_items="
            f"{corpus.heldout_items} that are held out; raise the latter"
        )
    if evaluation.matrix_schedule and (problem := cron_problem(evaluation.matrix_schedule)):
        return (
            f"evaluation.matrix_schedule='{evaluation.matrix_schedule}' {problem}; in UTC, e.g. '0 */6 * * *', or \"\" "
            "for none"
        )
    if evaluation.matrix_tasks and not evaluation.matrix_schedule:
        return (
            "evaluation.matrix_tasks has no effect, since nothing fills the matrix by itself: set "
            "evaluation.matrix_schedule, e.g. '0 */6 * * *', or drop it"
        )
    return _retrieval_problem(recipe) or benchmarks_problem(evaluation.benchmarks, (*FAMILIES, LOSS))


def _retrieval_problem(recipe: Recipe) -> str | None:
    """Retrieval alone has items where the corpus has a source of its kind; the other families' are always made."""
    if "retrieval" not in recipe.evaluation.families:
        return None
    own = [source for source in recipe.corpus.sources if source.name.startswith("retrieval/")]
    contexts = {source.context or DEFAULT_CONTEXT for source in own}
    lacking = sorted(set(recipe.lengths) - contexts)
    if not lacking:
        return None
    had = f"the sources retrieval/... have {sorted(contexts)}" if contexts else "there is no source retrieval/..."
    return (
        "evaluation.families names retrieval, which is scored at every phase's sequence_length, but no corpus source "
        f"has context {lacking[0]}, so that there are no items of it; {had}. Add a source 'retrieval/{lacking[0]}' "
        "with that context, keep to those lengths, or leave retrieval out of the families"
    )


def gate_problem(recipe: Recipe, gate: GateConfig) -> str | None:
    """What is wrong with a gate, field and remedy named; None when nothing is."""
    phases = [phase.name for phase in recipe.phases]
    if gate.phase not in phases:
        return f"gates.{gate.phase}: no such phase; {nearest(gate.phase, phases)}"
    scores = score_names(recipe, recipe.phase(gate.phase))
    untold = any(not domain_of(source) and not source.location for source in recipe.corpus.sources)
    for field, score in (("score", gate.score), ("minus", gate.minus)):
        if not score or score in scores or (field == "minus" and score == CHANCE):
            continue
        of_safety = gate.phase in recipe.safety_tested and is_safety_score(score)
        if not of_safety and not (untold and score.startswith(f"{LOSS}/")):
            return (
                f"gates.{gate.phase}.{field}='{score}': the phase is not scored on that; "
                f"{nearest(score, list(scores))}. Name one of its scores, or add what gives it to "
                "evaluation.families, evaluation.benchmarks or safety.kinds"
            )
    judged = {one.name: one.judge for one in recipe.evaluation.benchmarks if one.check is AnswerCheck.JUDGE}
    for field, score in (("score", gate.score), ("minus", gate.minus)):
        repeated = repeated_of(score)
        if judge := judged.get(repeated.of if repeated else score):
            return (
                f"gates.{gate.phase}.{field}='{score}' is judged by a language model ({judge}), which decides a gate "
                "only where its agreement with labelled answers is measured (kappa of 0.80), and of right and wrong "
                "answers nothing measures it. Gate on a score with another check, or look at this one beside the gates"
            )
    if gate.minus == CHANCE and scores.get(gate.score, Guess.NOTHING) is Guess.NOTHING:
        return f"gates.{gate.phase}.minus='{CHANCE}': '{gate.score}' has no chance level; leave minus out"
    return None
