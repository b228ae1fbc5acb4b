"""The hypotheses: one pure function per claim, with the URL of its paper."""
