"""Simple English stories, drawn at random from a small world.

A story has a place, a season, two friends, a helper, a few things and one of twelve kinds of plot
(`plots.THEMES`): somebody wants or has something, there is trouble, help, and an end. Phrases come
back (songs, lists, numbers, invented names), so that copying pays.

>>> import numpy as np
>>> story = make_story(np.random.default_rng(0))
>>> len(story.split()) > 30
True
"""

import lexicon as lx
from teller import Teller, article, capitalize, in_form

GENERAL_ACTS = [
    "[walk] to <place>",
    "[sit] down on the bench",
    "[look] around",
    "[open] the door",
    "[drink] some water",
    "[close] {s.p} eyes",
    "[wave] to {c.o}",
    "[talk] to {other.o}",
    "[wait] for {other.o}",
    "[think] about {m.o}",
    "[help] {c.o}",
    "[tell] {other.o} a story",
    "[ask] {s.r} what to do",
    "[walk] through the <season> day",
    "[carry] {s.p} bag home",
    "[visit] {c.o}",
    "[leave] the house",
    "[hug] {m.o}",
    "[return] to <place>",
    "[send] a letter to {m.o}",
    "[catch] a fish",
    "[enter] the old house",
    "[point] to the sky",
    "[gather] wood for the fire",
    "[promise] to help {c.o}",
    "[chase] the butterflies",
]
PATTERNS = [  # weight, template; {S} somebody, {T} somebody else, V W U their verb phrases
    (6, "{S} V"),
    (3, "<hour>, {S} V"),
    (3, "{S} V and W"),
    (3, "{S} <manner> V"),
    (2, "{S} V, and then {S} W"),
    (2, "after {S} V, {T} W"),
    (2, "{S} [want] to V:base, but {S} [be] too tired"),
    (2, "{S} [want] to V:base, but first {S} W"),
    (2, "{S} [try] to V:base"),
    (2, "{S} [begin] to V:base"),
    (3, "{S} [be] V:ing"),
    (2, "while {S} [be] V:ing, {T} W"),
    (2, "{S} [do] not V:base, because {S} [be] <bad>"),
    (2, "{S} [say] that {S} [want] to V:base"),
    (2, "{S.f}, who [be] <trait>, V"),
    (2, "{S} V because {S} [want] to W:base"),
    (1, "{S} [have] already V:part when {T} W"),
    (1, "{S} V instead of W:ing"),
    (1, "{S} [like] to V:base, and {T} [like] to W:base"),
    (1, "first {S} V, then {S} W, and at last {S} U"),
    (1, "{S} [can] V:base very well"),
    (1, "every day {S} V"),
]
EXCHANGES = [  # question or wish, answer; {me} speaks to {you}
    ("Can {you} V:base?", "Yes, {me} can V:base."),
    ("Can {you} V:base?", "No, {me} can not V:base."),
    ("Shall {ab} V:base?", "No, first {ab} must W:base."),
    ("Shall {ab} V:base?", "Yes, let {ab.o} V:base."),
    ("Why do {you} want to V:base?", "{me} want to V:base because {me} like it."),
    ("{me} want to V:base.", "Then {ab} will V:base together."),
    ("Will {you} V:base?", "{me} will V:base when {me} have time."),
    ("{me} think {ab} must V:base.", "{you} are right."),
    ("Do {you} like to V:base?", "Yes, {me} V:base every day."),
    ("If {you} V:base, {me} will W:base.", "Good, {me} will V:base."),
]
SCENES = [  # N a thing in its number n, M another one, P a preposition, A what N is like
    (4, "the N P the M [be:n] A"),
    (2, "the N <at> [be:n] A"),
    (2, "the N that [be:n] P the M [seem:n] A"),
    (2, "the N that {a} [see] P the M [be:n] A"),
    (2, "the N that [stand:n] P the M [be:n] not A"),
    (1, "the N of {m.o} [be:n] A"),
    (2, "{a} [see] that the N P the M [be:n] A"),
    (1, "{a} [look] at the N P the M"),
]
SHORT = [
    "nobody [answer:s]",
    "{a} [smile]",
    "{b} [laugh]",
    "it [be:s] very quiet",
    "{a} [wait]",
    "{ab} [rest]",
    "{a} [think] for a long time",
    "{b} [look] at {a.o}",
    "the clock [ring:s]",
]
FIRST = [
    "{a.f} [be] <a trait> <girl> who [live] in a small house near the river",
    "{a.f} [be] <a trait> <girl> who [like] the <season>",
    "there [be:s] once a <girl> named {a.n}, who [live:s] near the <near>",
    "in <far> there [live:s] a <girl> named {a.n}",
    "{a.f} [live] with {m.o} in the village of <far>",
    "{a.f} [be] a <girl> from <far>",
]
SECOND = [
    "the best friend of {a.n} [be:s] {b.n}",
    "{a} and {b.n} [be:p] good friends",
    "one day {ab} [go] to <place>",
    "{b.f} [live] in the next house",
    "<hour>, {ab} [meet] <at>",
    "{a} often [play] with {b.o}",
]
SETTING = ["it [be:s] <a day> day in <season>", "it [be:s] <season>, and <sky!>", "<sky!>"]
CLOSING = [
    "then {ab} [go] home",
    "{a} [be] <good>",
    "it [be:s] a good day",
    "{ab} [be] <good> and tired",
    "that night {a} [dream] of <far>",
    "{a} [say] good night to {m.o} and [sleep] well",
    "{a} never [forget] that day",
]


def weighted(teller, table):
    """Return one template of a table of (weight, template)."""
    total = sum(weight for weight, _ in table)
    mark = teller.rng.random() * total
    for weight, template in table:
        mark -= weight
        if mark < 0:
            return template
    return table[-1][1]


def people(teller):
    """Return the slots of a subject and of somebody else."""
    subject = teller.pick(["a", "a", "a", "a", "b", "b", "ab", "ab", "c"])
    other = {"a": "b", "b": "a", "ab": "c", "c": "a"}[subject]
    return subject, other


def acts(teller, subject):
    """Return three different verb phrases for people, their macros expanded."""
    source = teller.theme["acts"]
    chosen = []
    while len(chosen) < 3:
        act = teller.pick(source if teller.chance(0.75) else GENERAL_ACTS)
        own = subject == "c" and ("{c" in act or "<who>" in act)
        if act not in chosen and not own:
            chosen.append(act)
    return [teller.expand(act) for act in chosen]


def fill(template, phrases):
    """Put verb phrases for V, W, U; "V:ing" asks for that form."""
    for letter, phrase in zip("VWU", phrases, strict=True):
        for form in ("base", "ing", "part"):
            template = template.replace(f"{letter}:{form}", in_form(phrase, form))
        template = _replace_word(template, letter, phrase)
    return template


def _replace_word(template, word, text):
    return " ".join(
        token.replace(word, text) if token.strip(",.?") == word else token
        for token in template.split(" ")
    )


def set_moods(teller):
    """Draw the words that <hour>, <bad>, <manner> ... stand for in the next sentence."""
    season_words, skies = lx.SEASONS[teller.season]
    if teller.chance(0.3):
        teller.hour = min(teller.hour + 1, len(lx.HOURS) - 1)
    trait, day = teller.pick(lx.TRAITS), teller.pick(season_words.split())
    teller.macros |= {
        "hour": lx.HOURS[teller.hour],
        "season": teller.season,
        "manner": teller.pick(lx.MANNERS),
        "bad": teller.pick(lx.BAD),
        "good": teller.pick(lx.GOOD),
        "trait": trait,
        "girl": teller.cast["a"].noun,
        "near": teller.pick(["river", "lake", "forest", "station", "harbor", "market"]),
        "a trait": f"{article(trait)} {trait}",
        "a day": f"{article(day)} {day}",
        "sky!": teller.pick(skies),
    }


def tell(teller, template):
    """Tell one sentence with fresh moods."""
    set_moods(teller)
    teller.tell(template)


def tell_act(teller):
    """Tell what somebody does."""
    subject, other = people(teller)
    template = fill(weighted(teller, PATTERNS), acts(teller, subject))
    for mark, slot in (("S", subject), ("T", other)):
        template = template.replace(f"{{{mark}}}", f"{{{slot}}}")
        template = template.replace(f"{{{mark}.f}}", f"{{{slot}.f}}")
    tell(teller, template)


def draw_noun(teller):
    """Return a noun of the present place, its number, what it is like, and its class."""
    kind = teller.pick(lx.PLACES[teller.place][1].split())
    singular, many = teller.pick([(n, p) for (k, n), p in lx.NOUNS.items() if k == kind])
    number = "p" if many and teller.chance(0.5) else "s"
    feature = teller.pick(lx.FEATURES[kind].split())
    return (many if number == "p" else singular), number, feature, kind


def tell_scene(teller):
    """Tell what something is like: of the plot, or of the place."""
    if teller.chance(0.45):
        tell(teller, teller.pick_new(teller.theme["scenes"]))
        return
    noun, number, feature, kind = draw_noun(teller)
    other, *_ = draw_noun(teller)
    template = weighted(teller, SCENES)
    if kind == "person":
        template = template.replace("the N that", "the N who")
    words = {"N": noun, "M": other, "P": teller.pick(lx.PREPOSITIONS), "A": feature}
    for word, text in words.items():
        template = _replace_word(template, word, text)
    tell(teller, template.replace(":n]", f":{number}]"))


def tell_talk(teller):
    """Tell a question and its answer."""
    set_moods(teller)
    if teller.chance(0.55):
        question, answer = teller.pick_new(teller.theme["talk"])
        own = " my " in f" {question.lower()}"
        asked = " your " in question or " my " in f" {answer.lower()}"
        first = "a" if own else "b" if asked else teller.pick(["a", "b"])
    else:
        phrases = acts(teller, "c")
        question, answer = (fill(part, phrases) for part in teller.pick_new(EXCHANGES))
        first = teller.pick(["a", "b"])
    second = "b" if first == "a" else "a"
    verb = "ask" if question.endswith("?") else "say"
    teller.say(question, first, second, verb)
    teller.say(answer, second, first, teller.pick(["say", "say", "answer", "reply", "whisper"]))


def tell_short(teller):
    """Tell something in few words."""
    tell(teller, teller.pick_new(SHORT))


def song(teller):
    """Return three sentences, told apart from each other, that repeat a song."""
    kind = teller.pick(["animal", "small", "nature", "plant"])
    noun = teller.pick([n for k, n in lx.NOUNS if k == kind])
    adjective = teller.pick(lx.CLASSES[kind][0].split())
    place = teller.pick(list(lx.PLACES))
    line = f"oh, {adjective} {noun}, {adjective} {noun}, come with me to the {place}"
    return [
        f'{{a}} [sing], "{capitalize(line)}!"',
        f'again {{a}} [sing], "{capitalize(line)}!"',
        f'and {{b}} [sing], "{capitalize(line)}!"',
    ]


def saying(teller):
    """Return two sentences that repeat a saying."""
    nouns = [teller.pick([n for k, n in lx.NOUNS if k == kind]) for kind in ("small", "plant")]
    line = f"It goes {nouns[0]} by {nouns[0]} and {nouns[1]} by {nouns[1]}"
    return [
        f'{{m}} always [say], "{line}."',
        f'{{a}} [remember] the words of {{m.o}}, "{line}."',
    ]


def packing(teller):
    """Return two sentences that repeat a list of things."""
    things, known = [], []
    for kind in ("fruit", "tool", "small"):
        noun = teller.pick([n for k, n in lx.NOUNS if k == kind])
        adjective = teller.pick(lx.CLASSES[kind][0].split())
        things.append(f"{article(adjective)} {adjective} {noun}")
        known.append(f"the {adjective} {noun}")
    return [
        f"{{a}} [put] {things[0]}, {things[1]} and {things[2]} into {{s.p}} bag",
        f"{{a}} [take] {known[0]}, {known[1]} and {known[2]} out of {{s.p}} bag",
    ]


def number(teller):
    """Return two sentences that repeat a number."""
    return [
        "there [be:s] a number on the door, and the number [be:s] <number>",
        '{b} [say], "The number on the door is <number>."',
    ]


def plan(teller):
    """Return the beats between the opening and the end: templates, or functions that tell."""
    fillers = [tell_act] * 5 + [tell_scene] * 3 + [tell_talk] * 3 + [tell_short]
    theme = teller.theme
    room = int(teller.rng.integers(1, 8))
    parts = [[], [], []]  # before the trouble, after it, after the help
    if teller.chance(0.35):
        device = teller.pick([song, saying, packing, number])(teller)
        for part, template in zip(parts, device, strict=False):
            part.append(template)
            room -= 1
    while room > 0:
        part = parts[int(teller.rng.choice(3, p=[0.4, 0.35, 0.25]))]
        filler = teller.pick(fillers)
        part.insert(int(teller.rng.integers(0, len(part) + 1)), filler)
        room -= 2 if filler is tell_talk else 1
    trouble = [teller.pick(theme["trouble"])]
    if teller.chance(0.4):
        trouble.append("{a} [be] <bad>")
    return parts[0] + trouble + parts[1] + [teller.pick(theme["fix"])] + parts[2]


def make_sentences(rng):
    """Return the sentences of one story; see `make_story`."""
    teller = Teller(rng)
    if teller.chance(0.5):
        tell(teller, teller.pick(SETTING))
    tell(teller, teller.pick(FIRST))
    tell(teller, teller.pick(SECOND))
    tell(teller, teller.pick(teller.theme["start"]))
    for beat in plan(teller):
        if callable(beat):
            beat(teller)
        else:
            tell(teller, beat)
    tell(teller, teller.pick(teller.theme["end"]))
    if teller.chance(0.6):
        tell(teller, teller.pick(CLOSING))
    return teller.sentences


def make_story(rng):
    """Return one story.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every choice; the same state gives the same story.

    Returns
    -------
    story : str
        Mostly 6 to 16 sentences, separated by single spaces.
    """
    return " ".join(make_sentences(rng))


def make_corpus(n, rng, *, fragments=0.0):
    """Return many texts.

    Parameters
    ----------
    n : int
        Number of texts.
    rng : numpy.random.Generator
        Source of every choice.
    fragments : float
        Share of texts that start in the middle of a story, a quarter of them one sentence long, so
        that a model also knows texts that are no whole stories.

    Returns
    -------
    texts : list of str
        The stories, and fragments of stories.
    """
    texts = []
    for _ in range(n):
        sentences = make_sentences(rng)
        if rng.random() < fragments:
            start = int(rng.integers(len(sentences)))
            end = start + 1 if rng.random() < 0.25 else len(sentences)
            sentences = sentences[start:end]
        texts.append(" ".join(sentences))
    return texts
