"""Pages of one file: a run's report and a sweep's. Drawn from the directories' files alone, without torch."""
