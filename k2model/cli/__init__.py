"""The `k2` command, one file a group of commands."""
