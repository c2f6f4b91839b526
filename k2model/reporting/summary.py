"""What a finished lifecycle says on the terminal: scores, gates, and where everything is."""

from k2model.artifacts import ArtifactRef, Store
from k2model.reporting.report import PAGE
from k2model.reporting.run import LifecycleResult
from k2model.reporting.scores import lifecycle_summary


def print_summary(
    store: Store, tracking_uri: str, result: LifecycleResult, report: ArtifactRef, release: ArtifactRef
) -> str:
    """Print the table of scores and the places of report, release and tracking store; returns the places."""
    from rich.console import Console

    console = Console()
    console.print(lifecycle_summary(store, result))
    places = "\n".join(
        (
            f"report    {store.fetch(report) / PAGE}",
            f"release   {store.fetch(release)}",
            f"tracking  {tracking_uri}",
        )
    )
    console.print(places, soft_wrap=True, highlight=False, markup=False)
    return places
