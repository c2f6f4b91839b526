"""The gate of an arriving batch: what it is like beside what the line knows, and what is made of that.

arrival        a batch judged: its corpus, every check as a row, the decision
batch_corpus   the steps of the data for its one source
checks         the rows about its documents: copies, items, drift, phrases, answers
reading        documents as the checks read them, a seeded sample
profile        what the texts of a corpus are like, in small tables
drift          how far a batch is from what is known
poison         trigger phrases
plausible      losses under the champion
evidence       what was found, as it is written and as a page for people
accept         a person's word on a batch that was turned away
"""
