"""One recipe with some of its keys varied, over several seeds, as tables and charts.

axes     the keys and their values -> combinations, each a recipe of its own
places   equal steps of different combinations are one step, in a folder named after what decides it
plan     a sweep -> its runs, and the steps to make for them
work     makes the steps, in one process or several
table    the numbers of the runs' evals over the seeds: sweep.json
terminal the same for a reader
"""
