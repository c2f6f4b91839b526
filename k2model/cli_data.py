"""`k2 data`."""

import click


@click.group()
def data() -> None:
    """Look."""
