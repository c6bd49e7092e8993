"""The registry of benchmarks and models."""
