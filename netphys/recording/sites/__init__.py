"""Sites: where an electrode goes in a model, and the standard kinds that mean the same in each.

A site is ``<module path>`` (the module's output), ``<module path>@in`` (its input),
``<module path>@pattern`` (the attention weights that an attention module returns beside its
output), ``<module path>@experts`` (what a router gives each expert) or ``@logits`` (the logits that
the whole model returns).
"""

from netphys.recording.sites.families import KINDS
from netphys.recording.sites.find import Site, find_sites, find_towers, select_sites

__all__ = ["KINDS", "Site", "find_sites", "find_towers", "select_sites"]
