"""Is it right: extraction of the final answer, equality, five verdicts, and the pool of killable workers."""

from dartlib.grading.explanation import Explanation, explain
from dartlib.grading.extraction import extract_answer
from dartlib.grading.files import grade_file
from dartlib.grading.pool import GradingError, GradingPool
from dartlib.grading.verdicts import GRADER_VERSION, LENIENT_GRADER_VERSION
