"""Whether every part goes with every other: pairs of choices, each built and trained for two steps, or refused."""
