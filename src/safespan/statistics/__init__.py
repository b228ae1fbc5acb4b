"""From outcomes to verdicts: frontiers, selectivity, intervals, and what they say together (METHODS §7)."""
