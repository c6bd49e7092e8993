"""Whether a candidate may replace a baseline: a verdict for each benchmark, and the worst of them."""
