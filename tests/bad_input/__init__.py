"""The tables of test_bad_input.py, by what is wrong: each message is a line, however long."""

from bad_input.case import Case
from bad_input.constitutions import CONSTITUTIONS
from bad_input.evals import EVALS
from bad_input.flags import FLAGS
from bad_input.judging import JUDGING
from bad_input.models import MODELS
from bad_input.recipes import RECIPES
from bad_input.requests import REQUESTS

__all__ = ["CASES", "Case"]

CASES: list[Case] = [*JUDGING, *RECIPES, *CONSTITUTIONS, *REQUESTS, *FLAGS, *MODELS, *EVALS]
