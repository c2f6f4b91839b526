"""The phase that packing is tested on, apart from anything heavy so that a subprocess can import it."""

from dataclasses import replace

from k2model.recipe.laptop import laptop
from k2model.recipe.schema import MixtureEntry

WEIGHTS = {"prose": 30.0, "facts": 10.0, "arithmetic/think": 30.0, "chat/tools": 30.0}
PHASE = replace(
    laptop().phases[0],
    name="mid_1",
    sequence_length=128,
    global_batch=8,
    steps=40,
    mixture=tuple(MixtureEntry(name, weight) for name, weight in WEIGHTS.items()),
    seed=3,
)
