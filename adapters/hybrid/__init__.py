"""Hybrids of autoregression and diffusion."""
