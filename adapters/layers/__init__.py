"""What systems share: networks, sampling, checkpoints."""
