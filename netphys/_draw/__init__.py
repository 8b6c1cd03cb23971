"""Pictures: arrays and axes in, axes out; matplotlib is imported when something is drawn."""
