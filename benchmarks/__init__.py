"""What the numbers in README and docs/ are measured by: ``python -m benchmarks`` lists it."""
