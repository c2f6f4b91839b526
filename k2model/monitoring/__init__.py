"""Watching a training while it runs: Prometheus metrics of every worker, and its points in MLflow as they come.

The training is given observers (`k2model.training.observer`) and knows neither. Rules, routes and dashboards on these
metrics stand in `infra/monitoring`. Imports cheaply: what a setting does not ask for is not loaded.
"""

from k2model import lazy_exports

__all__: list[str] = []

__getattr__ = lazy_exports(__name__, {"watch_training": "watch", "metric_names": "exporter"})
