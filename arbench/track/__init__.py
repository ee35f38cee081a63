"""Sinks that copy results elsewhere; a run never depends on one."""
