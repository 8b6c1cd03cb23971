"""Analyses: labelled recordings in, results out."""
