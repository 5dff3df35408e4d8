"""Many runs: jobs, launchers, search and summary of a sweep."""
