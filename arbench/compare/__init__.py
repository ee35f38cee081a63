"""What changed between results: differences of two runs with intervals, and the gate of a nightly job. No torch."""
