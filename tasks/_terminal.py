"""What a person sees when `pyflyte` ends with an error that is meant for them, or is interrupted: one message.

`pyflyte` prints the traceback of every error before its text. Here the error is told while the command's context is
closed, which click does before that; bugs, and everything where `K2_TRACEBACK` or `pyflyte -v` asks for it, go on to
where `pyflyte` prints them.
"""

import re
import signal
import sys
import traceback

import click
from flytekit.core.base_task import PythonTask
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.workflow import WorkflowBase
from flytekit.exceptions.user import FlyteEntityNotFoundException, FlyteRecoverableException
from flytekit.interaction.click_types import JsonParamType

from k2model.cli.terminal import INTERRUPTED, say
from k2model.errors import for_user, nearest
from k2model.settings import traceback_wanted

# What flytekit puts before an error's text.
_ADDED = re.compile(r"Error encountered while (executing|converting inputs of) '[^']*':\n  |USER:Recoverable: error=")


def is_command() -> bool:
    """Whether this process is a command of `pyflyte`: a pod's is another."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().command.name == "pyflyte"


def tell_errors() -> None:
    """From here on, in the command of `pyflyte` that is running."""
    context = click.get_current_context()
    assert context.parent is not None, "pyflyte loads workflows in its sub-commands alone"
    while context.parent.parent is not None:
        context = context.parent
    context.call_on_close(_tell)
    FlyteContextManager.add_signal_handler(signal.default_int_handler)  # flytekit itself ends with 1 and without a word


def _tell() -> None:
    error = sys.exc_info()[1]
    if isinstance(error, KeyboardInterrupt):
        if traceback_wanted():
            traceback.print_exception(error)
        click.echo("Interrupted. Run the same command again to go on; what is finished is kept.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)
    verbose = click.get_current_context().find_root().params["verbose"]
    if not isinstance(error, Exception) or verbose or traceback_wanted():
        return
    if isinstance(error, FlyteRecoverableException):  # here nobody tries again by himself
        text = f"{_ADDED.sub('', str(error))}. Run the same command again"
    elif isinstance(error, FlyteEntityNotFoundException):
        module = sys.modules.get(error._module_name)
        known = (
            [name for name, one in vars(module).items() if isinstance(one, PythonTask | WorkflowBase)] if module else []
        )
        text = f"{error}; {nearest(error._entity_name, sorted(known))}"
    elif (problem := _no_object(error)) is not None:
        text = problem
    elif (told := for_user(error)) is not None:
        text = f"{type(told).__name__}: {_ADDED.sub('', str(told))}"
    else:
        return
    say(text, err=True)
    raise click.exceptions.Exit(1)


def _no_object(error: BaseException) -> str | None:
    """What to say of an option that takes a JSON object and was given other JSON, at which flytekit's parser fails."""
    if isinstance(error, click.ClickException):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is JsonParamType.convert.__code__:
            given = f"--{frame.f_locals['param'].name}={frame.f_locals['value']}"
            return f'{given} is no JSON object; give dotted fields with their values, as {{"phases.sft.steps": 99}}'
    return None
