"""A run folder -> what a reader wants to know of it."""
