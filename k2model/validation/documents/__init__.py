"""The gate before training: Great Expectations suites over the corpus, statistics, drift and the quarantine.

Imports cheaply: Great Expectations (seconds) is loaded by the first part that is looked at.
"""

from k2model import lazy_exports
from k2model.validation import Outcome, ValidationFailed

__all__ = ["Outcome", "ValidationFailed"]

__getattr__ = lazy_exports(
    __name__,
    {
        "valid_step": "step",
        "raw_checks_step": "step",
    },
)
