"""What a model does when it is asked for what it should not do, and for what it only seems it should not.

`registry` has the tests: 72 in ten domains, as K2's safety evaluation has, from templates of our own. `answers` asks a
model, `judging` has a judge read what it wrote, and `rows` computes the scores: three things apart, so that another
judge asks the model nothing again. Loads nothing heavy until a name is used.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "chosen_tests": "registry",
        "answers_step": "answers",
        "safety_step": "judging",
        "read_safety": "judging",
        "score_rows": "rows",
    },
)
