"""What all benchmarks share: measuring, storing, pages, machine, intervals, options."""
