"""Protocols: read what is to be compared, run an analyzer over it, and report rates with their intervals.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.lazy import attributes

__all__ = [
    "INCEPTION",
    "ExpressionReport",
    "FeatureTable",
    "GroupReport",
    "IdentificationReport",
    "PairSet",
    "VerificationReport",
    "audit_generator",
    "check_format",
    "evaluate_expression",
    "evaluate_groups",
    "evaluate_model",
    "feature_space",
    "identify_folders",
    "plot_confusion",
    "plot_det",
    "plot_distances",
    "plot_groups",
    "plot_reliability",
    "plot_roc",
    "published",
    "read_groups",
    "read_pairs",
    "save_audit",
    "save_features",
    "scan",
    "verify_pairs",
]

if TYPE_CHECKING:
    from mien.evaluation.audit import audit_generator
    from mien.evaluation.expression import ExpressionReport, evaluate_expression
    from mien.evaluation.features import FeatureTable, check_format, save_features
    from mien.evaluation.generation import evaluate_model
    from mien.evaluation.groups import GroupReport, evaluate_groups, read_groups
    from mien.evaluation.identification import IdentificationReport, identify_folders, scan
    from mien.evaluation.pairs import PairSet, read_pairs
    from mien.evaluation.plots import plot_confusion, plot_det, plot_distances, plot_groups, plot_reliability, plot_roc
    from mien.evaluation.publish import published, save_audit
    from mien.evaluation.spaces import INCEPTION, feature_space
    from mien.evaluation.verification import VerificationReport, verify_pairs
else:
    __getattr__ = attributes(
        "mien.evaluation",
        {
            "audit": ("audit_generator",),
            "expression": ("ExpressionReport", "evaluate_expression"),
            "features": ("FeatureTable", "check_format", "save_features"),
            "generation": ("evaluate_model",),
            "groups": ("GroupReport", "evaluate_groups", "read_groups"),
            "identification": ("IdentificationReport", "identify_folders", "scan"),
            "pairs": ("PairSet", "read_pairs"),
            "plots": ("plot_confusion", "plot_det", "plot_distances", "plot_groups", "plot_reliability", "plot_roc"),
            "publish": ("published", "save_audit"),
            "spaces": ("INCEPTION", "feature_space"),
            "verification": ("VerificationReport", "verify_pairs"),
        },
    )
