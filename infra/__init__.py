"""What the lifecycle runs on: the servers of one machine (`infra.stack`)."""
