"""Reference statistics: read in the formats in circulation, written in ours and theirs, their identity checked."""
