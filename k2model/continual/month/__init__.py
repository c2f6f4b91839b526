"""A month of a small line, to show that it goes on as it should: what arrives, what may come of it, and the report.

material      what is written: a new family of problems, a new set of facts, dialogues like the champion's own
days          thirty days of deliveries, good ones and ones that must not be trained on
delivery      how a day's batches come into the inbox
recipe        the line: a recipe that goes on, and the benchmarks that the month is to raise
outcome       what the month came to, read from ledger and store, and what must hold of it
chain         the same batches without replay, and all of them from scratch
page          the report

`workflows/month.py` runs it, by the launch plans of `workflows/schedules.py`.
"""
