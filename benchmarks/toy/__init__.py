"""A package beside arbench, for benchmarks: a generator and a feature network of random convolutions, no weights."""
