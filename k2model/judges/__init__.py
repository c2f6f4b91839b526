"""Who says whether a model refused, did harm, or answered rightly: rules, or a language model.

`open_judge` gives one by its config; `agreements` measures any of them against labelled answers, without which no
verdict of theirs means anything. Imports nothing heavy until a judge is asked.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Case": "verdict",
        "Judge": "verdict",
        "Judgement": "verdict",
        "Verdict": "verdict",
        "Wants": "verdict",
        "open_judge": "opening",
        "judge_of": "opening",
        "labelled_pairs": "labelled",
        "agreements": "agreement",
    },
)
