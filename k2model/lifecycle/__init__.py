"""The lifecycle as a whole: its table of steps, a recipe resolved against a store, and what would run on it."""

from k2model.lifecycle.plan import LifecyclePlan, resolve

__all__ = ["LifecyclePlan", "resolve"]
