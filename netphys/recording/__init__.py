"""Subjects, sites, capture and the recorder: the part of netphys that needs torch."""
