"""The contestants of `benchmarks.training`, the data they share and the jobs they run in."""
