"""The choices that a protocol, the command line and the functions behind them share."""

INITS = ("trained", "random", "shuffled")
WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
STORE_DTYPES = ("native", *WEIGHT_DTYPES, "int8")
POOLINGS = ("mean", "max", "last", "sum")
STORES = (
    "samples",
    *(f"word.{how}" for how in POOLINGS),
    *(f"trial.{how}" for how in POOLINGS),
    "raster",
    "top",
    "surprisal",
)
NONFINITE = ("raise", "keep")
FILES = ("one", "per-rank")  # what several processes record into
SUBJECT = "subject"  # name of the session that is no twin's
ISOLATED = "isolated"  # name of the subject's session with each word on its own
SEED = "{seed}"  # in the name of a network: each of its seeds
ANALYSES = ("rsa", "encoding")
METRICS = ("correlation", "euclidean", "cosine")  # of patterns alone
NOISES = ("full", "diagonal", "shrink-identity", "shrink-diagonal")
CROSSVALIDATED = ("crossnobis", "poisson-cv")  # metrics over runs or repeats
RDM_METRICS = (*METRICS, "mahalanobis", "poisson", *CROSSVALIDATED)
RANKED = ("spearman", "rho-a")
TAUS = ("tau-a", "tau-b")
WHITENED = ("whitened-pearson", "whitened-cosine")
METHODS = ("pearson", *RANKED, "cosine", *TAUS, *WHITENED)  # of RDMs as vectors of pairs
MOMENTS = ("bures", "riemann")  # of RDMs as second moments of patterns
DESCRIPTORS = ("rdm", "ranked", "rgtm", "rgdm")  # of RDMs, from geometry to topology
FACTORS = ("stimuli", "participants")  # what a result may be generalised to
TARGETS = ("participant", "group")
