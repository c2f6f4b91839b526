"""Long context: what a model finds, follows and counts in texts of any length, and what it gains from what is far back.

Tasks in the spirit of RULER (Hsieh et al. 2024) with generators of our own (`tasks`): a needle over depth and length,
several keys, several values, variable tracking, the most frequent words. Texts are made to measure in the tokens of the
model that is asked (`haystack`), from the 128 of a laptop's to 512K, asked and graded (`asking`). `positions` is the
loss by position. docs/long_context.md has the whole.
"""
