"""The life of one run, from config to finished run directory."""
