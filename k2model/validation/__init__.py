"""What all validations share: running Great Expectations on frames, what it found, and the pages that show it.

Which rules data must obey is declared beside the data: `k2model.validation.documents`,
`k2model.validation.tokens`. Nothing here imports Great Expectations before a `Runner` is made.
"""

from k2model.validation.outcome import Outcome, ValidationFailed, merge_parts, one_part
from k2model.validation.suites import Rules, Suite

__all__ = ["Outcome", "Rules", "Suite", "ValidationFailed", "merge_parts", "one_part"]
