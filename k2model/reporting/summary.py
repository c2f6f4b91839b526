"""What a finished lifecycle says on the terminal: scores, gates, and where everything is."""

from collections.abc import Sequence

from k2model.artifacts import Store
from k2model.artifacts.result import LifecycleResult
from k2model.registry import Registration
from k2model.reporting.report import PAGE
from k2model.reporting.scores import lifecycle_summary
from k2model.settings import masked


def print_summary(
    store: Store, tracking_uri: str, result: LifecycleResult, registrations: Sequence[Registration]
) -> str:
    """Print the table of scores; returns the places of report, release and tracking store, a line each, and what has
    become of the last phase, which is the last of `registrations`."""
    from rich.console import Console

    Console().print(lifecycle_summary(store, result))
    lines = [
        f"report    {store.fetch(result.artifacts['report']) / PAGE}",
        f"release   {store.fetch(result.artifacts['release'])}",
        f"tracking  {masked(tracking_uri)}",
    ]
    if registrations:
        last = registrations[-1]
        lines.append(f"promotion {last.promotion} ({last.model_name}, version {last.version})")
    return "\n".join(lines)
