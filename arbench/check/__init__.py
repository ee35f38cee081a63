"""The contract of an adapter, tried on a few tiny samples: for authors of new ones."""
