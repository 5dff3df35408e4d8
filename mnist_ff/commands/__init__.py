"""Composition roots: the files that know every part, one a command."""
