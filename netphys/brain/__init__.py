"""Brain data, and how the recordings of a subject are held against them."""
