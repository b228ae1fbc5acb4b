"""Dense linear algebra: kernels, devices, and a parallel map over tensors."""
