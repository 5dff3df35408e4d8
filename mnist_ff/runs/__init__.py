"""Run directories: their files, what they hold, finding them."""
