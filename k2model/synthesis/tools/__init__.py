"""Tools for dialogues: definitions, an executor that is exact, tasks that need them, and the rules that drop a
dialogue whose calls do not hold together."""
