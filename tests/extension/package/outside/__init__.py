"""A package of somebody else: it adds a metric, a convention, a system and a task to arbench, and edits none of it."""
