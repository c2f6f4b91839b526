"""The report of a lifecycle: what was learned, from what, at which cost, as one HTML file.

`report_step` makes the artifact of a `LifecycleResult`, `print_summary` is for the terminal. Numbers are read from
artifacts, none is computed anew except differences named by the recipe's gates. Imports nothing heavy until something
is built.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(__name__, {"report_step": "report", "print_summary": "summary"})
