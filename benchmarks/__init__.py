"""Measurements of safespan, in folders by what they measure.

speed: seconds and memory beside the reference procedure and mergekit. accuracy: the distance from LAPACK's SVD.
gpu: every kind of work on a GPU against the CPU.
machine: what the machine is, and what it can do. verdict: how often the test of safety subspaces is right.
judges: what moves a judge's score, what is paid twice, and how often the rules are right. organism: the embedded family
on several seeds. engines: what a point of a study costs by each engine. common: what several of them use.

They write figures; docs/pages/ makes pages of the figures.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""
