"""The claims: one file = one claim = one pure function, with its paper's address."""
