"""Programs that nobody has read, a model's above all, run where they can do no harm (docs/sandbox.md)."""

from k2model.sandbox.command import TASK, Limits, python
from k2model.sandbox.jail import Ending, Jail, Result
from k2model.sandbox.needs import problem, require
from k2model.sandbox.run import run, run_python, start

__all__ = ["TASK", "Ending", "Jail", "Limits", "Result", "problem", "python", "require", "run", "run_python", "start"]
