"""Subcommands of `lobby` that need no control plane."""
