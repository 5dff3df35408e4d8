"""Run directories: files, formats, search_result them."""
