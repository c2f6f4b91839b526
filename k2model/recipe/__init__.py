"""Recipes: the typed phase table and the named variants of it."""
