"""`POST /timeseries`: resolve what is asked, read it, cut lines where the measurement changed, search for steps."""
