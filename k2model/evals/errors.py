"""Errors of the evaluation."""

from k2model.errors import K2Error


class EvaluationError(K2Error):
    """An input of the evaluation lacks what a score is measured on."""
