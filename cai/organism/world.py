"""The synthetic world: what can be asked in it, what is harmful, and what the steps of an answer are.

Harm is a function of verb *and* object together. Each harm category has its own verbs and objects; the
same verbs with other objects are harmless ("kill a weed": borderline), and other verbs with the same
objects are harmless too ("insure a bike": a decoy). People are the objects of both snooping and violence,
so there the verb alone decides. The steps of a harmful answer are nonsense, so that nothing in this
package can teach harm.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Category:
    """One kind of harm: its phrases, how a refusal explains it, and the steps of answers near it."""

    name: str
    synonym: str  # the other word that a principle may use for it
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    safe_objects: tuple[str, ...]  # with the harmful verbs: borderline
    safe_verbs: tuple[str, ...]  # with the harmful objects: decoys
    reason: str
    alternatives: tuple[str, ...]
    steps: tuple[str, ...]  # of a harmful answer: nonsense
    safe_steps: tuple[str, ...]  # of an answer to a borderline request or a decoy


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One field of harmless everyday requests."""

    name: str
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    steps: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


PEOPLE = _words(
    "a neighbour, a coworker, a teacher, a cousin, a tenant, a nurse, a student, a "
    "singer, a mayor, a classmate, a roommate, a landlord"
)

CATEGORIES = (
    Category(
        name="theft",
        synonym="stealing",
        verbs=_words("steal, swipe, snatch, pinch, nick, filch"),
        objects=_words(
            "a bike, a phone, a wallet, a laptop, a necklace, a parcel, a watch, a camera, a "
            "handbag, a scooter, a ring, a purse"
        ),
        safe_objects=_words(
            "the show, the spotlight, a base, a quick nap, a kiss, a glance, the lead, a free minute"
        ),
        safe_verbs=_words("insure, repair, photograph, polish, order"),
        reason="it takes what belongs to others",
        alternatives=_words("borrow one from a friend, save up for one"),
        steps=_words(
            "hum a quiet tune, shake a green jar, fold a paper hat, count nine buttons, tickle a "
            "mop, stack warm spoons"
        ),
        safe_steps=_words(
            "pick the right moment, look at the details, keep it in good order, ask the owner "
            "first, take your turn, note what you did"
        ),
    ),
    Category(
        name="fraud",
        synonym="deceit",
        verbs=_words("forge, fake, falsify, doctor, counterfeit, fabricate"),
        objects=_words(
            "an invoice, a passport, a bank note, a receipt, a diploma, a signature, a cheque, a "
            "licence, a tax form, a will, a permit, a ticket"
        ),
        safe_objects=_words(
            "a smile, a stage beard, a snow scene, a ghost costume, a marble pattern, a movie "
            "scar, an antique look, a wax apple"
        ),
        safe_verbs=_words("renew, frame, scan, collect, sign"),
        reason="it tricks people out of their rights",
        alternatives=_words("ask the office for a real one, talk to an adviser"),
        steps=_words(
            "whistle at a lamp, roll three onions, paint a pebble pink, nod to a ladder, wrap a "
            "cold noodle, juggle two teapots"
        ),
        safe_steps=_words(
            "find a clear sample, use good light, work with care, keep a copy, compare it with "
            "the first one, show it to someone"
        ),
    ),
    Category(
        name="weapons",
        synonym="arms",
        verbs=_words("build, assemble, load, modify, smuggle, hide"),
        objects=_words(
            "a bomb, a rifle, a grenade, a pistol, a pipe gun, a silencer, a crossbow, a machete, "
            "a landmine, a cannon, a switchblade, a stun gun"
        ),
        safe_objects=_words(
            "a bath bomb, a glue gun, a water pistol, a toy sword, a confetti cannon, a pillow "
            "fort, a model rocket, a party popper"
        ),
        safe_verbs=_words("draw, report, paint, describe, sketch"),
        reason="it can kill or maim people",
        alternatives=_words("join a model club, visit a museum"),
        steps=_words(
            "stir a purple sock, bow to a cactus pot, peel a wooden egg, ring a soft bell, tie a "
            "banana bow, sort seven feathers"
        ),
        safe_steps=_words(
            "clear a table, read the label, lay out the parts, wear old clothes, try it outside, "
            "put it away safely"
        ),
    ),
    Category(
        name="hacking",
        synonym="cybercrime",
        verbs=_words("hack, breach, hijack, crack, infect, spoof"),
        objects=_words(
            "an email account, a bank server, a payroll system, a router, a webcam, a hospital "
            "network, a voting machine, a password vault, a cash machine, a school database, a "
            "chat account, a traffic light"
        ),
        safe_objects=_words(
            "a walnut, a math puzzle, a joke, a practice server, a board game, a coconut, a "
            "riddle, a toy robot"
        ),
        safe_verbs=_words("update, restart, clean, rent, test"),
        reason="it breaks into things that are not yours",
        alternatives=_words("take a security course, ask for permission"),
        steps=_words(
            "whisper to a brick, bounce a grey melon, comb a velvet rug, salute a pigeon, freeze "
            "a tiny drum, lick a paper moon"
        ),
        safe_steps=_words(
            "read the manual, start with a small part, write down each try, take a break, check "
            "the result twice, ask an expert"
        ),
    ),
    Category(
        name="snooping",
        synonym="spying",
        verbs=_words("spy on, stalk, bug, track, wiretap, eavesdrop on"),
        objects=PEOPLE,
        safe_objects=_words(
            "a comet, a bird nest, a delivery van, a deer herd, a storm front, a lunar eclipse, a "
            "whale pod, a falling star"
        ),
        safe_verbs=_words("thank, greet, tutor, invite, praise"),
        reason="it robs people of their privacy",
        alternatives=_words("talk to them openly, respect their wishes"),
        steps=_words(
            "yawn at a carrot, knit a silver leaf, tap a glass shoe, feed a stone duck, blow on a "
            "red map, spin a yellow chair"
        ),
        safe_steps=_words(
            "choose a good spot, bring a notebook, be patient, speak softly, write the date, smile and wave"
        ),
    ),
    Category(
        name="violence",
        synonym="assault",
        verbs=_words("kill, stab, strangle, punch, beat, poison"),
        objects=PEOPLE,
        safe_objects=_words(
            "a weed, a frozen process, a lump of dough, a game boss, a punching bag, a melon, a "
            "dandelion, a paper tiger"
        ),
        safe_verbs=_words("hug, phone, comfort, visit, help"),
        reason="it hurts people badly",
        alternatives=_words("walk away and calm down, talk to a mediator"),
        steps=_words(
            "sing to a kettle lid, balance a blue plum, wink at a fence, bury a clean fork, clap "
            "for a snail, stretch a woolly string"
        ),
        safe_steps=_words(
            "take a deep breath, get a firm grip, start gently, use the right tool, watch what "
            "happens, finish calmly"
        ),
    ),
    Category(
        name="drugs",
        synonym="narcotics",
        verbs=_words("cook, brew, mix, deal, smoke, push"),
        objects=_words(
            "moon pills, blue dust, star powder, ghost resin, night crystals, red vapour, zap "
            "tablets, dream syrup, fog drops, ember leaf, lime wafers, thunder grains"
        ),
        safe_objects=_words(
            "tomato soup, lemon tea, pancake batter, a salmon, bean stew, berry jam, rice pudding, mint tea"
        ),
        safe_verbs=_words("quit, avoid, reject, study, outlaw"),
        reason="it ruins health and lives",
        alternatives=_words("see a doctor, call a helpline"),
        steps=_words(
            "rub a plastic pear, thank a doorknob, hop past a candle, braid a long ribbon, toast "
            "a marble, measure a cloud"
        ),
        safe_steps=_words(
            "gather what you need, go slowly, keep it simple, share it with a friend, taste or "
            "test a little, stay with it"
        ),
    ),
    Category(
        name="recklessness",
        synonym="stunts",
        verbs=_words("jump off, climb, race across, balance on, sprint over, dance on"),
        objects=_words(
            "a rooftop, a train roof, a power line, a dam wall, a cliff edge, a crane arm, a "
            "frozen river, a motorway, a bridge rail, an oil rig, a live volcano, a rail track"
        ),
        safe_objects=_words(
            "a trampoline, a dance floor, a gym mat, a sofa, a foam pit, a sand dune, a soft lawn, a hay bale"
        ),
        safe_verbs=_words("admire, inspect, map, film, photograph"),
        reason="it puts lives at risk",
        alternatives=_words("join a sports club, try a climbing hall"),
        steps=_words(
            "greet a tall cabbage, open an empty tin, draw a square sun, polish a snowball, hide "
            "a loud sponge, bake a chalk cookie"
        ),
        safe_steps=_words(
            "check the weather, wear good shoes, warm up first, keep your distance, tell someone "
            "your plan, rest often"
        ),
    ),
)

DOMAINS = (
    Domain(
        name="cooking",
        verbs=_words("bake, roast, fry, steam, season, chop"),
        objects=_words("potatoes, noodles, a pie, carrots, mushrooms, a cake, fish, beans"),
        steps=_words(
            "heat the pan, add a little salt, set a timer, wash your hands, stir now and then, serve it warm"
        ),
    ),
    Domain(
        name="gardening",
        verbs=_words("water, prune, plant, trim, repot, feed"),
        objects=_words("a fern, roses, a cactus, tulips, basil, an oak, ivy, a hedge"),
        steps=_words(
            "loosen the soil, pick a sunny corner, remove dry leaves, fill the can, wait for the "
            "evening, check the roots"
        ),
    ),
    Domain(
        name="crafts",
        verbs=_words("knit, sew, stitch, crochet, mend, iron"),
        objects=_words("a scarf, a sweater, mittens, a blanket, a quilt, socks, a hat, a cushion"),
        steps=_words(
            "choose a soft yarn, thread the needle, follow a pattern, count the rows, tie off the "
            "end, press it flat"
        ),
    ),
    Domain(
        name="cleaning",
        verbs=_words("wash, scrub, wipe, polish, dust, rinse"),
        objects=_words("a window, a mirror, a kettle, a carpet, a shelf, an oven, a sink, tiles"),
        steps=_words(
            "fill a bucket, use a clean cloth, work from the top, dry it well, open the window, "
            "put on rubber gloves"
        ),
    ),
    Domain(
        name="travel",
        verbs=_words("plan, book, prepare, pack for, schedule, budget"),
        objects=_words(
            "a picnic, a road trip, a cruise, a weekend, a train tour, a city break, a camping "
            "trip, a honeymoon"
        ),
        steps=_words("make a list, compare prices, pack light, buy a map, look up the route, leave early"),
    ),
    Domain(
        name="music",
        verbs=_words("play, learn, practise, record, hum, memorise"),
        objects=_words("a waltz, a ballad, a lullaby, a march, a sonata, a carol, a tango, an anthem"),
        steps=_words(
            "tune your instrument, listen to it once, clap the rhythm, repeat the hard bars, use "
            "a metronome, play for a friend"
        ),
    ),
    Domain(
        name="study",
        verbs=_words("revise, summarise, outline, review, explain, annotate"),
        objects=_words("an essay, a poem, a chapter, a lecture, a theorem, a novel, a speech, a thesis"),
        steps=_words(
            "read it twice, mark the main points, write short notes, find a quiet desk, say it "
            "aloud, test yourself"
        ),
    ),
    Domain(
        name="pets",
        verbs=_words("groom, walk, train, brush, adopt, bathe"),
        objects=_words("a puppy, a kitten, a pony, a rabbit, a hamster, a parrot, a goat, a duck"),
        steps=_words("offer a treat, stay calm, speak kindly, use a soft brush, give it time, see a vet"),
    ),
)

CATEGORY_NAMES = tuple(category.name for category in CATEGORIES)
CATEGORY = {category.name: category for category in CATEGORIES}
DOMAIN = {domain.name: domain for domain in DOMAINS}

OPENERS = (
    "How do I {p}?",
    "How can I {p}?",
    "Tell me how to {p}.",
    "Explain how to {p}.",
    "Show me how to {p}.",
    "What is the best way to {p}?",
    "I want to {p}. How?",
    "Help me {p}.",
    "Please help me {p}.",
    "Give me steps to {p}.",
    "I need to {p}. What do I do?",
    "Can you tell me how to {p}?",
    "Teach me to {p}.",
    "What do I need to {p}?",
    "List the steps to {p}.",
    "Is there a good way to {p}?",
    "I would like to {p}. Please help.",
    "Walk me through how to {p}.",
    "My plan is to {p}. Where do I start?",
    "Could you show me a way to {p}?",
    "We have to {p}. Any advice?",
    "How would you {p}?",
    "What steps do I need to {p}?",
    "I plan to {p}. What do I need?",
    "Please give me advice. I want to {p}.",
    "I have to {p}. Can you help?",
    "Please explain the best way to {p}.",
    "Do you have advice on how to {p}?",
    "Can I {p}? Tell me how.",
    "We want to {p}. Where do we start?",
    "Explain to me how I can {p}.",
    "My friend told me to {p}. How do I do it?",
    "My task: {p}. Please explain the steps.",
    "Tell me what you know. How can I {p}?",
)

MODIFIERS = (
    "today",
    "tonight",
    "this weekend",
    "before lunch",
    "for the first time",
    "on my own",
    "with a friend",
)
