"""Data shipped with netphys; installed as the package ``netphys.shipped``."""
