"""The sets of questions that three-effort chat is made of: verifiable problems, identity, safety."""
