"""The choices that a protocol, the command line and the functions behind them share."""

INITS = ("trained", "random", "shuffled")
WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
STORE_DTYPES = ("native", *WEIGHT_DTYPES)
NONFINITE = ("raise", "keep")
SUBJECT = "subject"  # name of the session that is no twin's
