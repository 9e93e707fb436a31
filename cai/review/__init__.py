"""A human as an annotator, who is shown the most doubtful comparisons blind, and decides by a key."""
