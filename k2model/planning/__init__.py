"""What would run: a recipe resolved against a store, before anything is built."""

from k2model.planning.plan import DataPlan, LifecyclePlan, StoreRef, data_plan, lifecycle_plan, resolve

__all__ = ["DataPlan", "LifecyclePlan", "StoreRef", "data_plan", "lifecycle_plan", "resolve"]
