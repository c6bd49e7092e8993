"""Statistics: pure functions over arrays. NaN means "not available" here; callers turn it into null with a reason."""
