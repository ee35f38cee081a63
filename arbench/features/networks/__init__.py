"""Feature extractors: one network and one way to prepare its input each, all outputs from one forward pass."""
