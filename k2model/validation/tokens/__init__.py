"""The gates behind the tokenizer: token shards before packing, packed rows before training.

Imports cheaply: Great Expectations (seconds) is loaded by the first call.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "tokens_checks_step": "step",
        "sequences_checks_step": "step",
    },
)
