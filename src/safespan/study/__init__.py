"""A whole study: its stages, its plan, and running it again."""
