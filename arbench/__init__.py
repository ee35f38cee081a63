"""arbench: a benchmark and evaluation harness for autoregressive image generators and visual tokenizers."""

__version__ = "0.2.0.dev0"
