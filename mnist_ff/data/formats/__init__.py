"""The user's own files: readers of each format, and the checks that all go through. No torch."""
