"""What would run: a recipe resolved against a store, before anything is built."""

from k2model.planning.plan import LifecyclePlan, StoreRef, resolve

__all__ = ["LifecyclePlan", "StoreRef", "resolve"]
