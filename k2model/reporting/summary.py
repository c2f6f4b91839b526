"""What a finished lifecycle says on the terminal: scores, gates, and where everything is."""

from k2model.artifacts import ArtifactRef, Store
from k2model.reporting.report import PAGE
from k2model.reporting.run import LifecycleResult
from k2model.reporting.scores import lifecycle_summary
from k2model.settings import masked


def print_summary(
    store: Store, tracking_uri: str, result: LifecycleResult, report: ArtifactRef, release: ArtifactRef
) -> str:
    """Print the table of scores; returns the places of report, release and tracking store, a line each, and what has
    become of the last phase where it is registered."""
    from rich.console import Console

    Console().print(lifecycle_summary(store, result))
    lines = [
        f"report    {store.fetch(report) / PAGE}",
        f"release   {store.fetch(release)}",
        f"tracking  {masked(tracking_uri)}",
    ]
    if last := result.phases[-1].registration:
        lines.append(f"promotion {last.promotion} ({last.model_name}, version {last.version})")
    return "\n".join(lines)
