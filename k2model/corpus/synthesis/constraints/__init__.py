"""Instructions that a program can check, in the manner of IFEval, and replies that follow several of them at once."""
