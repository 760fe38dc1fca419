"""One engine for every training (run folder, resume, averages, schedules, processes), and a written-out story a model.

A story is a plain loop of PyTorch: it builds its model, takes batches by their position and calls what is here.
"""
