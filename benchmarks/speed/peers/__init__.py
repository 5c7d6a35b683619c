"""What the speed comparison runs, a contestant a process; see benchmarks/performance.py."""
