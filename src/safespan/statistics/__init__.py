"""Statistics of the verdict: frontiers, selectivity, intervals and tests (METHODS §7)."""
