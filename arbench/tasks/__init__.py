"""The tasks, one package each: `__init__` defines it, `work` does it. Found by `arbench.spec.task.tasks`."""
