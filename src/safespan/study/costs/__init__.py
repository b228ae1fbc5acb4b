"""What a study costs: the work of its stages, counted before it is done, and time, disk, memory and money of it."""
