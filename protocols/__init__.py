"""Protocols shipped with netphys; installed as the package ``netphys.protocols``."""
