"""Measures of recognition, NumPy only: pure functions of scores and labels, each with its interval.

Scores are similarities: higher means more alike, and ``score >= threshold`` is a match. A score of ``-inf``
is a failure to acquire: no threshold accepts it.
"""
