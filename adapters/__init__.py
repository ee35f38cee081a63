"""The adapters that ship with arbench: FAMILY/SYSTEM/, and what they share in layers/ and train/."""
