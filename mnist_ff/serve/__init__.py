"""`mnist-ff serve`: local web pages with the list of runs, a live view of a training, reports and comparisons."""
