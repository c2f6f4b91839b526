"""Speed claims, each a script that measures both sides in one run and prints the ratio."""
