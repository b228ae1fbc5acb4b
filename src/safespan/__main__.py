"""Entry point of `python -m safespan` and of `accelerate launch -m safespan train …`."""

from safespan.cli import main

main()
