"""Answers that take more than a comparison: programs that are run, mathematics that is worked out."""
