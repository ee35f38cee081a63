"""The tasks: orchestration of adapters, metrics and measuring, nothing else."""
