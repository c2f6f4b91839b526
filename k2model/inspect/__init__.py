"""Looking: at the data of a store, at how trainings go, and at where things came from."""
