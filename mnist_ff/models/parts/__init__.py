"""Kinds of networks, one file each: their keys and builders. No torch until one is built."""
