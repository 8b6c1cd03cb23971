"""Topology of representations: which conditions are neighbours, whatever the exact distances."""
