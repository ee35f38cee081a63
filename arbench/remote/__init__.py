"""Object stores by `fsspec`: what an address may be, copies of what lies there, and uploads."""
