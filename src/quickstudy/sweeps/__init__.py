"""Sweeps: many training runs that differ in some parameters, and which of them learn best.

Nothing is imported here, so that a new process can set its number of threads before torch starts.
"""
