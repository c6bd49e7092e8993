"""Group-bys: a request resolved, planned, its sums read in a few statements and added up in columns, its rows made."""
