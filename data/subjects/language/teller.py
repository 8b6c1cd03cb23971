"""Tells one story: keeps track of its people and things and turns templates into sentences.

A new thing is "a dog", a known one "the dog" or "it"; a pronoun is used only where one participant
can be meant; verbs agree with their subject and follow the tense of the story, and in direct
speech the speaker is "I" and the listener "you".
"""

import re
from dataclasses import dataclass

import lexicon as lx
from plots import THEMES

TOKEN = re.compile(r"\{(\w+)(?:\.(\w+))?\}|\[(\w+)(?::(@?\w+))?\]")
CASES = {None: 0, "f": 0, "n": 0, "o": 1, "p": 2, "r": 3}
ALWAYS_PAIRED = ("glove", "sock", "shoe", "boot")
WEATHER_SEASON = {"snow": "winter", "ice": "winter", "sun": "summer", "fog": "autumn"}
SONG_TOPICS = (
    "the moon and the sea",
    "a bird in the snow",
    "the old mill",
    "a ship in the wind",
    "two small stars",
    "the long road home",
)


@dataclass(eq=False)
class Thing:
    """Somebody or something in a story."""

    noun: str
    pronoun: str = "it"
    plural: str | None = None
    mass: bool = False
    adjective: str = ""
    name: str | None = None
    owner: "Thing | None" = None
    members: tuple = ()
    count: str = ""
    met: bool = False


def article(words):
    """Return "a" or "an", as the following words ask for."""
    return "an" if words[0] in "aeiou" else "a"


def capitalize(text):
    """Return the text with a capital first letter."""
    return text[0].upper() + text[1:]


def in_form(template, form):
    """Return the template with its plain verbs in another form ("base", "ing", "part")."""
    return re.sub(r"\[(\w+)\]", rf"[\1:{form}]", template)


class Teller:
    """State of one story: who takes part, who was mentioned, and which sentences were told."""

    def __init__(self, rng):
        self.rng = rng
        self.tense = "past" if rng.random() < 0.75 else "present"
        self.sentences = []
        self.used = []  # templates told so far
        self.window = [[], []]  # participants of the previous and of the present sentence
        self.last_subject = self.first_subject = None
        self.subject = None
        self.agreement = "s"
        self.speaker = self.listener = None
        self.hour = int(rng.integers(0, 2))
        self.theme = THEMES[self.pick(list(THEMES))]
        self.row = self.pick(self.theme["rows"])
        self.place = self.pick(self.theme["places"])
        self.season = WEATHER_SEASON.get(self.row.get("word")) or self.pick(list(lx.SEASONS))
        self.cast = {}
        self.make_cast()
        self.macros = self.make_macros()

    # chance

    def pick(self, items):
        """Return one of `items`."""
        return items[int(self.rng.integers(len(items)))]

    def pick_new(self, items):
        """Return one of `items`, rather one that this story has not had yet."""
        item = self.pick([item for item in items if item not in self.used] or items)
        self.used.append(item)
        return item

    def chance(self, probability):
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    # the people and things of the story

    def invent_name(self):
        """Return a name that no other story is likely to have."""
        syllables = [self.pick(lx.SYLLABLES) for _ in range(int(self.rng.integers(2, 4)))]
        return "".join(syllables).capitalize()

    def make_person(self, taken=()):
        """Return a child with a name, sometimes an invented one."""
        is_girl = self.chance(0.5)
        name = self.pick([n for n in (lx.GIRLS if is_girl else lx.BOYS) if n not in taken])
        if self.chance(0.2):
            name = self.invent_name()
        return Thing(*(("girl", "she") if is_girl else ("boy", "he")), name=name, met=True)

    def make_thing(self, kind, noun=None):
        """Return a thing of a class of the lexicon, one or several."""
        noun = noun or self.pick([n for k, n in lx.NOUNS if k == kind])
        plural = lx.NOUNS[kind, noun]
        adjective = self.pick(lx.CLASSES[kind][0].split())
        thing = Thing(noun, plural=plural, mass=plural is None, adjective=adjective)
        several = plural and (self.chance(self.theme["plural"]) or noun in ALWAYS_PAIRED)
        if several:
            thing.pronoun = "they"
            thing.count = self.pick(["two", "three", "four", "some", "many", "five"])
        elif kind == "animal" and self.chance(0.3):
            thing.name, thing.pronoun = self.invent_name(), self.pick(["he", "she"])
        return thing

    def make_cast(self):
        """Fill `cast`: friends a and b, both of them, family m, helper c and the things."""
        a = self.make_person()
        b = self.make_person(taken=(a.name,))
        self.cast = {"a": a, "b": b, "ab": Thing("", "they", members=(a, b), met=True)}
        relative = self.pick(["he", "she"])
        noun = self.pick(lx.FAMILY[relative])
        self.cast["m"] = Thing(noun, relative, owner=a, met=True)
        adjectives, nouns = lx.CLASSES["person"]
        noun = self.row["who"] if self.row.get("who") in nouns.split() else None
        helper = noun or self.pick([n for n in nouns.split() if n not in ("doctor", "teacher")])
        adjective = self.pick(adjectives.split())
        self.cast["c"] = Thing(helper, self.pick(["he", "she"]), adjective=adjective)
        if noun:  # the plot speaks of this person as known
            self.cast["c"].met = True
        for slot, kind in self.theme["things"].items():
            self.cast[slot] = self.make_thing(kind, self.row.get(slot))
            if self.cast[slot].noun in [self.cast[s].noun for s in self.cast if s != slot]:
                others = {thing.noun for thing in self.cast.values()}
                left = [n for k, n in lx.NOUNS if k == kind and n not in others]
                self.cast[slot] = self.make_thing(kind, self.pick(left))

    def make_macros(self):
        """Return what <name> stands for in this story's templates."""
        preposition = lx.PLACES[self.place][0]
        return {
            **self.row,
            "at": f"{preposition} the {self.place}",
            "place": f"the {self.place}",
            "far": self.invent_name(),
            "song": self.pick(SONG_TOPICS),
            "number": " ".join(self.pick(lx.NUMBERS) for _ in range(3)),
        }

    # words

    def mention(self, thing):
        """Note that `thing` was named in the present sentence."""
        for one in (thing, *thing.members):
            if one not in self.window[1]:
                self.window[1].append(one)
        if thing.owner is not None and thing.owner not in self.window[1]:
            self.window[1].append(thing.owner)

    def pronoun_is_clear(self, thing, case):
        """Return whether a pronoun can only mean `thing` here."""
        recent = self.window[0] + self.window[1]
        rivals = [t for t in recent if t.pronoun == thing.pronoun and t is not thing]
        if thing not in recent:
            return False
        if not rivals or (case == 0 and thing is self.first_subject):
            return True
        return case == 0 and self.first_subject is None and self.last_subject is thing

    def refer(self, thing, case, *, full=False):
        """Return words for `thing` and its agreement, and note the mention."""
        spoken = self.spoken_pronoun(thing)
        if spoken:
            return lx.PRONOUNS[spoken][case], lx.PRONOUNS[spoken][4]
        agreement = "p" if thing.pronoun == "they" else "s"
        clear = not full and self.pronoun_is_clear(thing, case)
        if case == 3 or (clear and self.chance(0.85 if case == 0 else 0.7)):
            words = lx.PRONOUNS[thing.pronoun][case]
        else:
            words = self.name(thing, subject=case == 0)
            if case == 2:
                words += "'" if words.endswith("s") and agreement == "p" else "'s"
        self.mention(thing)
        return words, agreement

    def spoken_pronoun(self, thing):
        """Return "I", "you" or "we" for people of a dialogue, None for others."""
        if self.speaker is None:
            return None
        if thing is self.speaker:
            return "I"
        if thing is self.listener:
            return "you"
        return "we" if self.speaker in thing.members else None

    def name(self, thing, *, subject=False):
        """Return a noun phrase for `thing`."""
        if thing.members:
            return " and ".join(self.name(one) for one in thing.members)
        if thing.owner is not None:
            owner = self.possessive(thing.owner)
            return f"{owner} {thing.noun}"
        if not thing.met:
            thing.met = self.speaker is None or not subject
            return self.first_name(thing) if thing.met else f"the {self.noun(thing)}"
        if thing.name and self.chance(0.75 if thing.plural else 1.0):
            return thing.name
        adjective = thing.adjective + " " if self.chance(0.35) else ""
        return f"the {adjective}{self.noun(thing)}"

    def possessive(self, thing):
        """Return "her", "Anna's", "my" ... before a noun."""
        if thing is self.subject and self.spoken_pronoun(thing) is None:
            return lx.PRONOUNS[thing.pronoun][2]
        return self.refer(thing, 2)[0]

    def noun(self, thing):
        """Return the noun in its number."""
        return thing.plural if thing.pronoun == "they" else thing.noun

    def first_name(self, thing):
        """Return a noun phrase for something that is new in the story."""
        adjective = thing.adjective + " " if self.chance(0.6) else ""
        words = adjective + self.noun(thing)
        if thing.pronoun == "they":
            return f"{thing.count} {words}"
        if thing.mass:
            return f"some {words}"
        named = f" named {thing.name}" if thing.name else ""
        return f"{article(words)} {words}{named}"

    # templates

    def expand(self, template):
        """Replace <name> and <name:form> by what they stand for."""

        def replace(match):
            value = self.macros[match[1]]
            return in_form(value, match[2]) if match[2] else value

        return re.sub(r"<([\w !]+)(?::(\w+))?>", replace, template)

    def render(self, template):
        """Return the text of a template."""
        template = self.expand(template)
        parts, end = [], 0
        for match in TOKEN.finditer(template):
            parts.append(template[end : match.start()])
            end = match.end()
            slot, case, verb, form = match.groups()
            parts.append(self.render_verb(verb, form) if verb else self.render_slot(slot, case))
        return "".join([*parts, template[end:]])

    def render_verb(self, verb, form):
        """Inflect a verb; `form` is None, an agreement, "@slot" or a form of `conjugate`."""
        tense = "present" if self.speaker is not None else self.tense
        if form in ("base", "ing", "part"):
            return lx.conjugate(verb, form=form)
        agreement = form or self.agreement
        if form and form.startswith("@"):
            agreement = "p" if self.cast[form[1:]].pronoun == "they" else "s"
        return lx.conjugate(verb, agreement=agreement, tense=tense)

    def render_slot(self, slot, case):
        """Return words for a participant."""
        if slot == "s":
            index = CASES[case]
            spoken = self.spoken_pronoun(self.subject)
            return lx.PRONOUNS[spoken or self.subject.pronoun][index]
        thing = self.other() if slot == "other" else self.cast[slot]
        if CASES[case] == 0:
            words, agreement = self.refer(thing, 0, full=case is not None)
            if case != "n":
                self.subject, self.agreement = thing, agreement
                self.first_subject = self.first_subject or thing
            return words
        if CASES[case] == 1 and thing is self.subject and self.spoken_pronoun(thing) is None:
            return lx.PRONOUNS[thing.pronoun][3]
        if self.speaker is not None and self.subject is None:  # "let us close our eyes"
            self.subject = thing
        return self.refer(thing, CASES[case])[0]

    def other(self):
        """Return the friend who is not the subject."""
        a, b = self.cast["a"], self.cast["b"]
        return b if self.subject is a else a if self.subject is b else self.cast["m"]

    # sentences

    def begin(self):
        """Start a new sentence."""
        self.window = [self.window[1], []]
        self.last_subject, self.first_subject = self.first_subject, None
        self.subject = None

    def tell(self, template):
        """Add one sentence."""
        self.begin()
        text = self.render(template)
        self.sentences.append(capitalize(text) + ("" if text[-1] in '.!?"' else "."))

    def quote(self, template, speaker, listener):
        """Return direct speech, without its quotation marks."""
        self.speaker, self.listener = self.cast[speaker], self.cast[listener]
        self.cast["me"], self.cast["you"] = self.speaker, self.listener
        text = capitalize(self.render(template))
        self.speaker = self.listener = None
        return text

    def say(self, template, speaker, listener, verb="say"):
        """Add one sentence with direct speech."""
        self.begin()
        text = self.quote(template, speaker, listener)
        style = self.rng.random()
        to = f" {{{listener}.o}}" if verb == "ask" and self.chance(0.4) else ""
        if style < 0.25:
            tag = capitalize(self.render(f"{{{speaker}}} [{verb}]{to}"))
            self.sentences.append(f'{tag}, "{text}"')
            return
        tag = self.render(f"{{{speaker}}} [{verb}]{to}")
        text = text[:-1] + "," if text.endswith(".") else text
        self.sentences.append(f'"{text}" {tag}.')
