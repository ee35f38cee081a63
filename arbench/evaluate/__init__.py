"""From features and pixels to the numbers of every convention: what `run` and `score` share."""
