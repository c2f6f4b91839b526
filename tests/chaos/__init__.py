"""The fault suite: what breaks while real parts are at work, and how each of them ends. `python -m tests.chaos`."""
