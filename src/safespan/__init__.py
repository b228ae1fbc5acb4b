"""safespan: does a safety subspace exist in this language model?"""
