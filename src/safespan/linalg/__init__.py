"""The dense linear algebra: kernels, where they run, and work on several tensors at a time."""
