"""Arrays in, arrays out: numeric functions without labels, files or torch."""
