"""Training of the minis: what their recipes share, and the command."""
