"""A lifecycle in MLflow's own pages: its run with phases and data steps nested in it, files, the experiment's page.

`k2model.registry` registers phases and describes them; what is of the whole stands here. All of it may be written
again, and only what has changed is.
"""

from k2model import lazy_exports

__all__: list[str] = []

__getattr__ = lazy_exports(__name__, {"begin_lifecycle": "show", "finish_lifecycle": "show"})
