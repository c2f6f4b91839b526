"""Who watches the training of a phase, as the settings have it: the exporter where a port is set, on every worker; the
shipper on rank 0, where MLflow is a server.

A SQLite file has one writer at a time and a laptop two cores: there the points go to MLflow when the phase is
registered, all at once, and nothing runs beside the training.
"""

from k2model import settings
from k2model.artifacts import ArtifactRef
from k2model.errors import K2Error
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.training.observer import Observer, Observers
from k2model.training.world import World


def watch_training(recipe: Recipe, phase: PhaseConfig, checkpoint: ArtifactRef, world: World) -> Observer:
    """What this worker tells of its part in the training of `phase`, which makes `checkpoint`.

    Raises K2Error when a setting is none.
    """
    watching: list[Observer] = []
    try:
        port = settings.metrics_port()
    except ValueError as error:
        raise K2Error(str(error)) from None
    if port:
        from k2model.monitoring.exporter import Exporter

        watching.append(Exporter(recipe.name, checkpoint, world, port, settings.metrics_address()))
    if world.first and settings.live_metrics() and settings.tracking_uri().startswith(("http://", "https://")):
        from k2model.monitoring.shipper import Shipper
        from k2model.registry.live import LiveRun

        watching.append(Shipper(LiveRun.of(recipe, phase, checkpoint)))
    return Observers(watching)
