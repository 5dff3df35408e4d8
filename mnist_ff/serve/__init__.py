"""A local page of many runs: a list, one that trains as it goes on, reports and comparisons."""
