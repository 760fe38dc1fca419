"""Studies: questions about generative models at work, each with arms, a control, seeds and a verdict that can be no.

A study is a protocol (`mien.studies.protocol`) and what runs one cell of it; the engine (`mien.studies.engine`) runs
all cells, goes on where it was stopped, and writes one JSON, one plot and one page.
"""
