"""What all validations share: running Great Expectations on frames, what it found, and the pages that show it.

Which rules data must obey is declared beside the data: `k2model.corpus.validation`,
`k2model.tokens.validation`. Nothing here imports Great Expectations before a `Runner` is made.
"""

from k2model.validation.outcome import Outcome, ValidationFailed, merge_parts, one_part
from k2model.validation.rules import Rules, Suite

__all__ = ["Outcome", "Rules", "Suite", "ValidationFailed", "merge_parts", "one_part"]
