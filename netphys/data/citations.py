"""What results ask to be cited: a small closed table, and its entries as BibTeX."""

from __future__ import annotations

from netphys._check import check_option
from netphys._version import read_version

Entry = tuple[str, dict[str, str]]  # kind of the entry, its fields

ENTRIES: dict[str, Entry] = {
    "adelson1985": (
        "article",
        {
            "author": "Adelson, Edward H. and Bergen, James R.",
            "title": "Spatiotemporal energy models for the perception of motion",
            "journal": "Journal of the Optical Society of America A",
            "volume": "2",
            "number": "2",
            "pages": "284--299",
            "year": "1985",
            "doi": "10.1364/JOSAA.2.000284",
        },
    ),
    "benjamini1995": (
        "article",
        {
            "author": "Benjamini, Yoav and Hochberg, Yosef",
            "title": "Controlling the false discovery rate: a practical and powerful approach to "
            "multiple testing",
            "journal": "Journal of the Royal Statistical Society: Series B",
            "volume": "57",
            "number": "1",
            "pages": "289--300",
            "year": "1995",
            "doi": "10.1111/j.2517-6161.1995.tb02031.x",
        },
    ),
    "brennan2016": (
        "article",
        {
            "author": "Brennan, Jonathan R. and Stabler, Edward P. and Van Wagenen, Sarah E. and "
            "Luh, Wen-Ming and Hale, John T.",
            "title": "Abstract linguistic structure correlates with temporal activity during "
            "naturalistic comprehension",
            "journal": "Brain and Language",
            "volume": "157--158",
            "pages": "81--94",
            "year": "2016",
            "doi": "10.1016/j.bandl.2016.04.008",
        },
    ),
    "dupre2022": (
        "article",
        {
            "author": r"Dupr{\'e} la Tour, Tom and Eickenberg, Michael and Nunez-Elizalde, Anwar O."
            " and Gallant, Jack L.",
            "title": "Feature-space selection with banded ridge regression",
            "journal": "NeuroImage",
            "volume": "264",
            "pages": "119728",
            "year": "2022",
            "doi": "10.1016/j.neuroimage.2022.119728",
        },
    ),
    "freedman1983": (
        "article",
        {
            "author": "Freedman, David and Lane, David",
            "title": "A nonstochastic interpretation of reported significance levels",
            "journal": "Journal of Business and Economic Statistics",
            "volume": "1",
            "number": "4",
            "pages": "292--298",
            "year": "1983",
            "doi": "10.2307/1391660",
        },
    ),
    "friston1995": (
        "article",
        {
            "author": "Friston, K. J. and Holmes, A. P. and Poline, J. B. and Grasby, P. J. and "
            "Williams, S. C. R. and Frackowiak, R. S. J. and Turner, R.",
            "title": "Analysis of {fMRI} time-series revisited",
            "journal": "NeuroImage",
            "volume": "2",
            "number": "1",
            "pages": "45--53",
            "year": "1995",
            "doi": "10.1006/nimg.1995.1007",
        },
    ),
    "glover1999": (
        "article",
        {
            "author": "Glover, Gary H.",
            "title": "Deconvolution of impulse response in event-related {BOLD} {fMRI}",
            "journal": "NeuroImage",
            "volume": "9",
            "number": "4",
            "pages": "416--429",
            "year": "1999",
            "doi": "10.1006/nimg.1998.0419",
        },
    ),
    "hadidi2026": (
        "article",
        {
            "author": "Hadidi, Nima and Feghhi, Ebrahim and Song, Bryan H. and Blank, Idan A. and "
            "Kao, Jonathan C.",
            "title": "Spurious alignment between large language models and brains can emerge from "
            "non-robust methods and overlooked confounds",
            "journal": "Nature Communications",
            "volume": "17",
            "pages": "5769",
            "year": "2026",
            "doi": "10.1038/s41467-026-72253-7",
        },
    ),
    "kay2008": (
        "article",
        {
            "author": "Kay, Kendrick N. and Naselaris, Thomas and Prenger, Ryan J. and "
            "Gallant, Jack L.",
            "title": "Identifying natural images from human brain activity",
            "journal": "Nature",
            "volume": "452",
            "number": "7185",
            "pages": "352--355",
            "year": "2008",
            "doi": "10.1038/nature06713",
        },
    ),
    "kriegeskorte2008it": (
        "article",
        {
            "author": "Kriegeskorte, Nikolaus and Mur, Marieke and Ruff, Douglas A. and "
            "Kiani, Roozbeh and Bodurka, Jerzy and Esteky, Hossein and Tanaka, Keiji and "
            "Bandettini, Peter A.",
            "title": "Matching categorical object representations in inferior temporal cortex of "
            "man and monkey",
            "journal": "Neuron",
            "volume": "60",
            "number": "6",
            "pages": "1126--1141",
            "year": "2008",
            "doi": "10.1016/j.neuron.2008.10.043",
        },
    ),
    "kriegeskorte2008rsa": (
        "article",
        {
            "author": "Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter",
            "title": "Representational similarity analysis -- connecting the branches of systems "
            "neuroscience",
            "journal": "Frontiers in Systems Neuroscience",
            "volume": "2",
            "pages": "4",
            "year": "2008",
            "doi": "10.3389/neuro.06.004.2008",
        },
    ),
    "lagecastellanos2019": (
        "article",
        {
            "author": "Lage-Castellanos, Agustin and Valente, Giancarlo and Formisano, Elia and "
            "De Martino, Federico",
            "title": "Methods for computing the maximum performance of computational models of "
            "{fMRI} responses",
            "journal": "PLoS Computational Biology",
            "volume": "15",
            "number": "3",
            "pages": "e1006397",
            "year": "2019",
            "doi": "10.1371/journal.pcbi.1006397",
        },
    ),
    "netphys": (
        "misc",
        {
            "author": "{The netphys developers}",
            "title": "netphys: neurophysiology of artificial neural networks",
        },
    ),
    "nili2014": (
        "article",
        {
            "author": "Nili, Hamed and Wingfield, Cai and Walther, Alexander and Su, Li and "
            "Marslen-Wilson, William and Kriegeskorte, Nikolaus",
            "title": "A toolbox for representational similarity analysis",
            "journal": "PLoS Computational Biology",
            "volume": "10",
            "number": "4",
            "pages": "e1003553",
            "year": "2014",
            "doi": "10.1371/journal.pcbi.1003553",
        },
    ),
    "phipson2010": (
        "article",
        {
            "author": "Phipson, Belinda and Smyth, Gordon K.",
            "title": "Permutation p-values should never be zero: calculating exact p-values when "
            "permutations are randomly drawn",
            "journal": "Statistical Applications in Genetics and Molecular Biology",
            "volume": "9",
            "number": "1",
            "pages": "39",
            "year": "2010",
            "doi": "10.2202/1544-6115.1585",
        },
    ),
    "reimers2019": (
        "inproceedings",
        {
            "author": "Reimers, Nils and Gurevych, Iryna",
            "title": "Sentence-{BERT}: sentence embeddings using {Siamese} {BERT}-networks",
            "booktitle": "Proceedings of EMNLP-IJCNLP 2019",
            "pages": "3982--3992",
            "year": "2019",
            "doi": "10.18653/v1/D19-1410",
        },
    ),
    "diedrichsen2021": (
        "article",
        {
            "author": r"Diedrichsen, J{\"o}rn and Berlot, Eva and Mur, Marieke and Sch{\"u}tt, Heiko"
            " H. and Shahbazi, Mahdiyar and Kriegeskorte, Nikolaus",
            "title": "Comparing representational geometries using whitened"
            " unbiased-distance-matrix similarity",
            "journal": "Neurons, Behavior, Data Analysis, and Theory",
            "volume": "5",
            "number": "3",
            "year": "2021",
            "doi": "10.51628/001c.27664",
        },
    ),
    "harvey2023": (
        "misc",
        {
            "author": "Harvey, Sarah E. and Larsen, Brett W. and Williams, Alex H.",
            "title": "Duality of {Bures} and shape distances with implications for comparing neural"
            " representations",
            "year": "2023",
            "eprint": "2311.11436",
            "archiveprefix": "arXiv",
        },
    ),
    "shahbazi2021": (
        "article",
        {
            "author": "Shahbazi, Mahdiyar and Shirali, Ali and Aghajan, Hamid and Nili, Hamed",
            "title": "Using distance on the {Riemannian} manifold to compare representations in"
            " brain and in models",
            "journal": "NeuroImage",
            "volume": "239",
            "pages": "118271",
            "year": "2021",
            "doi": "10.1016/j.neuroimage.2021.118271",
        },
    ),
    "maris2007": (
        "article",
        {
            "author": "Maris, Eric and Oostenveld, Robert",
            "title": "Nonparametric statistical testing of {EEG}- and {MEG}-data",
            "journal": "Journal of Neuroscience Methods",
            "volume": "164",
            "pages": "177--190",
            "year": "2007",
            "doi": "10.1016/j.jneumeth.2007.03.024",
        },
    ),
    "walther2016": (
        "article",
        {
            "author": r"Walther, Alexander and Nili, Hamed and Ejaz, Naveed and Alink, Arjen and"
            ' Kriegeskorte, Nikolaus and Diedrichsen, J{"o}rn',
            "title": "Reliability of dissimilarity measures for multi-voxel pattern analysis",
            "journal": "NeuroImage",
            "volume": "137",
            "pages": "188--200",
            "year": "2016",
            "doi": "10.1016/j.neuroimage.2015.12.012",
        },
    ),
    "schutt2023": (
        "article",
        {
            "author": r"Sch{\"u}tt, Heiko H. and Kipnis, Alexander D. and Diedrichsen, J{\"o}rn and"
            " Kriegeskorte, Nikolaus",
            "title": "Statistical inference on representational geometries",
            "journal": "eLife",
            "volume": "12",
            "pages": "e82566",
            "year": "2023",
            "doi": "10.7554/eLife.82566",
        },
    ),
    "bauer2021ripser": (
        "article",
        {
            "author": "Bauer, Ulrich",
            "title": "{Ripser}: efficient computation of {Vietoris--Rips} persistence barcodes",
            "journal": "Journal of Applied and Computational Topology",
            "volume": "5",
            "number": "3",
            "pages": "391--423",
            "year": "2021",
            "doi": "10.1007/s41468-021-00071-5",
        },
    ),
    "edelsbrunner2002": (
        "article",
        {
            "author": "Edelsbrunner, Herbert and Letscher, David and Zomorodian, Afra",
            "title": "Topological persistence and simplification",
            "journal": "Discrete and Computational Geometry",
            "volume": "28",
            "number": "4",
            "pages": "511--533",
            "year": "2002",
            "doi": "10.1007/s00454-002-2885-2",
        },
    ),
    "giusti2015": (
        "article",
        {
            "author": "Giusti, Chad and Pastalkova, Eva and Curto, Carina and Itskov, Vladimir",
            "title": "Clique topology reveals intrinsic geometric structure in neural correlations",
            "journal": "Proceedings of the National Academy of Sciences",
            "volume": "112",
            "number": "44",
            "pages": "13455--13460",
            "year": "2015",
            "doi": "10.1073/pnas.1506407112",
        },
    ),
    "lin2018dependence": (
        "misc",
        {
            "author": "Lin, Baihan and Kriegeskorte, Nikolaus",
            "title": "Adaptive geo-topological independence criterion",
            "year": "2018",
            "eprint": "1810.02923",
            "archiveprefix": "arXiv",
        },
    ),
    "lin2024trsa": (
        "article",
        {
            "author": "Lin, Baihan and Kriegeskorte, Nikolaus",
            "title": "The topology and geometry of neural representations",
            "journal": "Proceedings of the National Academy of Sciences",
            "volume": "121",
            "number": "42",
            "pages": "e2317881121",
            "year": "2024",
            "doi": "10.1073/pnas.2317881121",
        },
    ),
    "szekely2007": (
        "article",
        {
            "author": r"Sz{\'e}kely, G{\'a}bor J. and Rizzo, Maria L. and Bakirov, Nail K.",
            "title": "Measuring and testing dependence by correlation of distances",
            "journal": "The Annals of Statistics",
            "volume": "35",
            "number": "6",
            "pages": "2769--2794",
            "year": "2007",
            "doi": "10.1214/009053607000000505",
        },
    ),
    "tralie2018": (
        "article",
        {
            "author": "Tralie, Christopher and Saul, Nathaniel and Bar-On, Rann",
            "title": "{Ripser.py}: a lean persistent homology library for {Python}",
            "journal": "Journal of Open Source Software",
            "volume": "3",
            "number": "29",
            "pages": "925",
            "year": "2018",
            "doi": "10.21105/joss.00925",
        },
    ),
    "wang2020minilm": (
        "inproceedings",
        {
            "author": "Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and "
            "Zhou, Ming",
            "title": "{MiniLM}: deep self-attention distillation for task-agnostic compression of "
            "pre-trained transformers",
            "booktitle": "Advances in Neural Information Processing Systems",
            "volume": "33",
            "pages": "5776--5788",
            "year": "2020",
            "eprint": "2002.10957",
            "archiveprefix": "arXiv",
        },
    ),
}


def get_bibtex(*keys: str) -> str:
    """Return entries of the table as BibTeX.

    Parameters
    ----------
    *keys : str
        Keys of the table, such as "netphys" or "nili2014".

    Returns
    -------
    text : str
        Entries in the order of the keys, a blank line between them.

    Raises
    ------
    ValueError
        If a key is not in the table.

    Examples
    --------
    >>> print(get_bibtex("schutt2023").splitlines()[0])
    @article{schutt2023,
    """
    for key in keys:
        check_option("key", key, ENTRIES)
    return "\n\n".join(_format(key) for key in keys)


def _format(key: str) -> str:
    kind, fields = ENTRIES[key]
    fields = fields | ({"note": f"Software, version {read_version()}"} if key == "netphys" else {})
    lines = "\n".join(f"  {name:<13} = {{{value}}}," for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"
