"""Run directories: files, formats, finding them."""
