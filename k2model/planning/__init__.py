"""What a recipe costs before it is run: time, GPUs' memory, storage, and how much of the time interruptions take."""
