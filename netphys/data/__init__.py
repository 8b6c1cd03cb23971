"""Stimuli, the session file and its reader: labelled arrays and HDF5, no torch."""
