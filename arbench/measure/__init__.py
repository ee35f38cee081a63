"""Clock, timing loop, phase probe, memory, statistics of timings, provenance."""
