"""Where and how to compute: devices, evaluation mode, memory and the processes of a run."""
