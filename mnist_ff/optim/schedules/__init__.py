"""Learning-rate schedules, one file each: the share of the run that is done to the share of optimizer.lr. No torch."""
