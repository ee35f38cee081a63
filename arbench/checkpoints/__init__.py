"""Weight files, read without torch: what is in them, and which part of them is loaded."""
