"""Protocols: read what is to be compared, run an analyzer over it, and report rates with their intervals."""

from mien.evaluation.expression import ExpressionReport, evaluate_expression
from mien.evaluation.groups import GroupReport, evaluate_groups, read_groups
from mien.evaluation.identification import IdentificationReport, identify_folders
from mien.evaluation.pairs import PairSet, read_pairs
from mien.evaluation.verification import VerificationReport, verify_pairs

__all__ = [
    "ExpressionReport",
    "GroupReport",
    "IdentificationReport",
    "PairSet",
    "VerificationReport",
    "evaluate_expression",
    "evaluate_groups",
    "identify_folders",
    "read_groups",
    "read_pairs",
    "verify_pairs",
]
