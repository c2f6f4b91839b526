"""Champion against challenger, and the champion against the model that it replaced.

capabilities   a score of both on the same items: a row, and whether it may be promoted on it
comparison     the verdict of a turn, from every row and gate
verdict        what a comparison found, as it is written and told
page           the same for people
canary         a promoted model on items that no decision was made on
"""
