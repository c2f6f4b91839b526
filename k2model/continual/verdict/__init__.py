"""Champion against challenger, what the challenger's artifacts say, and the champion against the model it replaced.

capabilities     a score of both on the same items: a row, and whether it may be promoted on it
comparison       the verdict of a turn, from every row and gate
verdict          what a comparison found, as it is written and told
page             the same for people
artifact_gates   parity, provenance, manifests: of turns and lifecycles alike
parity           checkpoint and export beside each other at the end of the longest context
canary           a promoted model on items that no decision was made on
"""
