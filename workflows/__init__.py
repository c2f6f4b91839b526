"""The DAGs. Run one with `pyflyte run workflows/<file>.py <workflow>`."""
