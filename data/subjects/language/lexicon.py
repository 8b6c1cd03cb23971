"""Words of the small world that the built-in language subject knows, and how they inflect."""


def words(text):
    """Return the words of a text."""
    return text.split()


GIRLS = words("Anna Mia Lena Rosa Ella Nora Clara Ruth Sara Ida Maya Tess Julia Emma Vera Lucy")
BOYS = words("Ben Tom Max Paul Oscar Leo Felix Hugo Jonas Karl Noah Sam Peter Adam Finn Otto")
SYLLABLES = words("ba bel do dra fa gor ka la lo mi mo na ni ol pa ri ro sa ta tu va vel zi zu")

PRONOUNS = {  # subject, object, possessive, reflexive, agreement
    "I": ("I", "me", "my", "myself", "I"),
    "you": ("you", "you", "your", "yourself", "p"),
    "we": ("we", "us", "our", "ourselves", "p"),
    "he": ("he", "him", "his", "himself", "s"),
    "she": ("she", "her", "her", "herself", "s"),
    "it": ("it", "it", "its", "itself", "s"),
    "they": ("they", "them", "their", "themselves", "p"),
}

NUMBERS = words("one two three four five six seven eight nine ten")

# class -> (adjectives that fit all its nouns, nouns as "singular" or "singular/plural"; "~" = mass)
CLASSES = {
    "animal": (
        "big small brown black white hungry old young gentle clever",
        "dog cat horse cow sheep/sheep bird duck rabbit mouse/mice goat pig hen fox bear frog owl",
    ),
    "fruit": ("red ripe sweet fresh small", "apple pear cherry plum berry tomato"),
    "dish": (
        "hot warm fresh good",
        "soup~ bread~ rice~ stew~ cake pie pancake porridge~",
    ),
    "kitchenware": (
        "clean empty blue white small",
        "cup plate bowl spoon pot pan jar glass bottle basket",
    ),
    "tool": (
        "old heavy new strong good",
        "hammer saw broom shovel ladder brush rope needle ax key bucket knife/knives",
    ),
    "vehicle": (
        "fast slow red blue yellow old new",
        "car bus train truck bicycle boat ship tractor wagon plane",
    ),
    "instrument": (
        "old new fine small loud",
        "drum guitar piano flute violin horn bell trumpet harp",
    ),
    "clothing": (
        "warm wool blue red green new old",
        "coat hat shirt sock glove scarf/scarves shoe boot dress sweater",
    ),
    "plant": (
        "tall green small young strong",
        "tree flower rose bush bean vine pumpkin",
    ),
    "toy": ("new old red yellow small", "ball kite doll puzzle swing top card drum"),
    "reading": ("long short old new strange", "book letter map story poem picture"),
    "furniture": (
        "old wooden small large dark",
        "table chair bed door window shelf/shelves box clock lamp bench",
    ),
    "building": (
        "old tall white large quiet",
        "house school shop barn tower bridge castle station mill church",
    ),
    "nature": (
        "wide deep green quiet long",
        "river lake field forest road valley garden path",
    ),
    "body": (
        "left right",
        "hand foot/feet arm leg knee ear eye tooth/teeth finger nose shoulder",
    ),
    "small": (
        "small shiny old round blue",
        "key coin stone button bell ring shell feather candle pencil nail",
    ),
    "person": (
        "old young kind friendly tall busy",
        "teacher farmer doctor baker driver singer sailor painter nurse neighbor",
    ),
}

FEATURES = {  # what else may be said of a thing after "is", by class
    "animal": "hungry tired quiet happy wild thirsty",
    "fruit": "ripe sweet fresh red",
    "dish": "hot ready good warm",
    "kitchenware": "clean empty full broken dirty",
    "tool": "heavy useful sharp old broken",
    "vehicle": "fast slow late full",
    "instrument": "loud soft old beautiful",
    "clothing": "warm dry wet new dirty",
    "plant": "green tall dry beautiful",
    "toy": "new broken old colorful",
    "reading": "long short strange beautiful",
    "furniture": "old dusty heavy wooden clean",
    "building": "old tall empty dark quiet",
    "nature": "wide green quiet beautiful",
    "small": "small shiny lost old round",
    "person": "kind busy tired friendly happy",
}

FAMILY = {
    "she": words("mother grandmother sister aunt"),
    "he": words("father grandfather brother uncle"),
}

PLACES = {  # place -> (preposition inside it, classes of things found there)
    "kitchen": ("in", "kitchenware furniture fruit"),
    "garden": ("in", "plant tool animal fruit"),
    "barn": ("in", "animal tool"),
    "farm": ("on", "animal plant vehicle building"),
    "field": ("in", "animal plant vehicle"),
    "forest": ("in", "animal plant nature"),
    "river": ("by", "animal plant building"),
    "lake": ("by", "vehicle animal building"),
    "harbor": ("in", "vehicle building person"),
    "market": ("at", "fruit person kitchenware clothing"),
    "village": ("in", "building person animal"),
    "town": ("in", "building vehicle person"),
    "school": ("at", "reading furniture person"),
    "library": ("in", "reading furniture"),
    "workshop": ("in", "tool furniture small"),
    "station": ("at", "vehicle person small"),
    "street": ("on", "building vehicle person"),
    "park": ("in", "plant animal toy"),
    "house": ("in", "furniture small reading"),
    "shop": ("in", "clothing small toy"),
    "hall": ("in", "instrument furniture person"),
    "hospital": ("in", "person furniture"),
    "church": ("in", "furniture instrument person"),
    "castle": ("in", "furniture small building"),
    "mountain": ("on", "nature plant animal"),
    "beach": ("on", "small toy vehicle"),
}

SEASONS = {  # season -> (adjectives for the day, weather sentences)
    "winter": (
        "cold dark gray icy",
        [
            "snow [fall:s] on the roofs",
            "the wind [be:s] cold",
            "ice [cover:s] the lake",
            "the snow [lie:s] deep on the road",
        ],
    ),
    "spring": (
        "mild bright fresh windy",
        [
            "a soft rain [fall:s]",
            "the first flowers [open:p] in the sun",
            "the birds [sing:p] in the trees",
            "a fresh wind [blow:s] over the fields",
        ],
    ),
    "summer": (
        "hot sunny bright dry",
        [
            "the sun [shine:s] on the fields",
            "the air [be:s] hot and still",
            "white clouds [move:p] over the hills",
            "the grass [be:s] warm and dry",
        ],
    ),
    "autumn": (
        "gray windy rainy cool",
        [
            "the leaves [fall:p] from the trees",
            "gray clouds [cover:p] the sky",
            "the rain [run:s] down the windows",
            "fog [lie:s] over the river",
        ],
    ),
}

HOURS = ["early in the morning", "in the morning", "at noon", "in the afternoon", "in the evening"]
MANNERS = words("slowly quickly quietly carefully gladly")
GOOD = words("happy glad proud safe calm")
BAD = words("sad afraid worried tired angry lonely")
TRAITS = words("clever brave kind quiet curious careful cheerful shy")

PREPOSITIONS = ["near", "behind", "beside", "next to", "in front of"]

AUXILIARIES = {"can": ("can", "could"), "will": ("will", "would")}

_IRREGULAR = """
beat beat beaten|become became become|begin began begun|bite bit bitten|blow blew blown
break broke broken|bring brought brought|build built built|buy bought bought|catch caught caught
come came come|cut cut cut|deal dealt dealt|dig dug dug|do did done|draw drew drawn
drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed fed|feel felt felt
find found found|fly flew flown|forget forgot forgotten|freeze froze frozen|get got got
give gave given|go went gone|grow grew grown|hang hung hung|have had had|hear heard heard
hide hid hidden|hit hit hit|hold held held|hurt hurt hurt|keep kept kept|know knew known
lay laid laid|leave left left|let let let|lie lay lain|light lit lit|lose lost lost|make made made
meet met met|put put put|read read read|ride rode ridden|ring rang rung|run ran run|say said said
see saw seen|sell sold sold|send sent sent|set set set|sew sewed sewn|shake shook shaken
shine shone shone|show showed shown|sing sang sung|sit sat sat|sleep slept slept|split split split
stand stood stood|sweep swept swept|swim swam swum|take took taken|teach taught taught
tell told told|think thought thought|throw threw thrown|wake woke woken|wear wore worn|win won won
write wrote written
"""
_REGULAR = """
answer arrive ask bake bark boil brush burn call carry change chase clap clean clear climb close
cluck cook count cover croak cross cry dance dream enter explain fill finish fix
follow gather graze grunt help hoot hop hug jump kick knit laugh learn like listen
live look love mend move need open paint pick plant play point practice promise pull purr push
quack reach remember repair reply rest return roll row sail save seem share shout smell smile
snort sound squeak start stay step stir stop study talk taste thank tie touch travel try turn
use visit wait walk want warm wash watch water wave whisper whistle work wrap
"""
_DOUBLING = set(words("clap hop hug knit step stir stop wrap"))


def _regular(verb):
    if verb in _DOUBLING:
        past = verb + verb[-1] + "ed"
    elif verb.endswith("e"):
        past = verb + "d"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        past = verb[:-1] + "ied"
    else:
        past = verb + "ed"
    return past, past


_PAST = {verb: _regular(verb) for verb in _REGULAR.split()}
_PAST |= {
    line.split()[0]: tuple(line.split()[1:])
    for line in _IRREGULAR.strip().replace("\n", "|").split("|")
}
_PAST["be"] = ("was", "been")
_ING_DOUBLING = _DOUBLING | set(
    words("begin clap cut dig forget step let set get hit put run sit split stop swim win")
)
_ING_EXCEPTIONS = {"lie": "lying", "tie": "tying", "be": "being", "see": "seeing"}


def _ing(verb):
    if verb in _ING_EXCEPTIONS:
        return _ING_EXCEPTIONS[verb]
    if verb in _ING_DOUBLING:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") else verb) + "ing"


def plural(noun):
    """Return the regular plural of a noun."""
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun in ("tomato", "potato") else "s")


def third_person(verb):
    """Return the third person singular of a verb in the present tense."""
    if verb in ("have", "be"):
        return {"have": "has", "be": "is"}[verb]
    return plural(verb) if verb not in ("go", "do") else verb + "es"


def conjugate(verb, *, form="fin", agreement="s", tense="past"):
    """Inflect a verb.

    Parameters
    ----------
    verb : str
        Base form.
    form : {"fin", "base", "ing", "part"}
        Finite, base, present participle or past participle.
    agreement : {"s", "p", "I"}
        Third person singular, plural (also "you"), or first person singular.
    tense : {"past", "present"}
        Used by the finite form only.

    Returns
    -------
    word : str
        The inflected word.
    """
    if verb in AUXILIARIES:
        return AUXILIARIES[verb][tense == "past"]
    if form == "base":
        return verb
    if form == "ing":
        return _ing(verb)
    if form == "part":
        return _PAST[verb][1]
    if verb == "be":
        past, present = {"s": ("was", "is"), "p": ("were", "are"), "I": ("was", "am")}[agreement]
        return past if tense == "past" else present
    if tense == "past":
        return _PAST[verb][0]
    return third_person(verb) if agreement == "s" else verb


def _parse_nouns():
    table = {}
    for kind, (_, nouns) in CLASSES.items():
        for entry in nouns.split():
            noun, _, many = entry.rstrip("~").partition("/")
            table[kind, noun] = None if entry.endswith("~") else (many or plural(noun))
    return table


NOUNS = _parse_nouns()
"""(class, noun) -> plural, None for nouns without one."""


def content_words():
    """Return nouns in both numbers, verbs (base and past), adjectives and pronouns, sorted."""
    found = {noun for _, noun in NOUNS} | {many for many in NOUNS.values() if many}
    found |= set(_PAST) | {past for past, _ in _PAST.values()}
    for adjectives, _ in CLASSES.values():
        found |= set(adjectives.split())
    for adjectives in FEATURES.values():
        found |= set(adjectives.split())
    for forms in PRONOUNS.values():
        found |= {form for form in forms if len(form) > 1}
    return sorted(found)
