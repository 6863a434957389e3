"""The class of a cut-out, read off its path."""

import re
from pathlib import PurePath

from duotrack.datasets.simulation.sprites import Kind

_CLASSES: dict[str, Kind] = {
    **dict.fromkeys(("person", "people", "human", "pedestrian"), "person"),
    **dict.fromkeys(("vehicle", "transport", "transportation"), "vehicle"),
    **dict.fromkeys(("animal", "mammal", "insect", "fauna", "wildlife"), "animal"),
    **dict.fromkeys(("flyer", "bird", "aircraft", "flight"), "flyer"),
    **dict.fromkeys(("thing", "object", "item", "misc", "other", "food", "plant", "tool", "toy"), "thing"),
}
"""What a folder of a whole class is called, in the singular."""

_LISTS: dict[Kind, str] = {
    "person": """
        adult artist athlete baby ballerina biker blacksmith boy breakdancer bride brother chef child clown
        cowboy crowd cyclist dad dancer doctor driver family farmer father female fireman firefighter friend
        gentleman girl grandma grandpa guy hiker hunter infant jogger kid king knight lady male man manager mom
        mother nun nurse pedestrian person player policeman prince princess queen referee rider runner sailor
        santa singer sister skater skier snowboarder soldier student surfer swimmer teenager toddler walker
        wizard witch woman worker
    """,
    "vehicle": """
        ambulance automobile bicycle bike boat bus cab camper canoe car caravan carriage cart convertible coupe
        cruiser digger dumper excavator ferry firetruck forklift hatchback hummer indycar jeep kayak limousine
        locomotive lorry minibus minivan moped motorbike motorboat motorcycle motorhome pickup racecar roadster
        sail sailboat sailing scooter sedan ship sled sledge snowmobile sportscar submarine suv tank tanker taxi
        towtruck tractor trailer tram trawler tricycle trolley truck tugboat van vessel wagon yacht
    """,
    "animal": """
        alligator ant antelope ape badger bear beaver beetle bison boar buffalo bug bull bunny calf camel
        capybara caribou cat caterpillar cattle cheetah chick chicken chimp chimpanzee cow coyote crab crawfish
        crocodile deer dingo dinosaur dog dolphin donkey dragon duck echidna elephant elk ferret fish foal fox
        frog gazelle giraffe gnu goat gopher gorilla grasshopper hamster hare hedgehog hen hippo hippopotamus
        horse hyena iguana jaguar kangaroo kitten koala lamb leopard lion lioness lizard llama lobster lynx mole
        monkey moose mouse mule octopus orca ostrich otter ox panda panther peacock penguin pig pony puma puppy
        rabbit raccoon ram rat reindeer rhino rhinoceros rooster salamander scorpion seahorse seal shark sheep
        shrimp skunk sloth slug snail snake spider squirrel starfish stag stallion tiger toad tortoise turkey
        turtle unicorn walrus weasel whale wildboar wolf wombat worm yak zebra
    """,
    "flyer": """
        aeroplane airliner airplane airship albatross balloon bat bee biplane blackbird blimp bluebird bumblebee
        butterfly condor cormorant crane crow cuckoo dove dragonfly drone eagle falcon flamingo fly glider goose
        gull hawk helicopter heron hornet hoverfly hummingbird jet kingfisher kite ladybug lark locust lorikeet
        magpie mosquito moth owl paraglider parrot pelican pigeon plane puffin quadcopter quadrotor raptor raven
        robin rocket satellite seagull sparrow starling stork swallow swan toucan uav ufo vulture wasp
        woodpecker zeppelin
    """,
}
_WORDS: dict[str, Kind] = {word: kind for kind, words in _LISTS.items() for word in words.split()} | {
    word: kind for word, kind in _CLASSES.items() if kind != "thing"
}
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
    "oxen": "ox",
    "calves": "calf",
    "wolves": "wolf",
    "persons": "person",
    "trains": "locomotive",  # the singular is what the folder of a split is called
}
_CODE = re.compile(r"(?=.*\d[a-f])[0-9a-f]{3,}|\d+", re.IGNORECASE)
"""A number or a part of a hash, no word; `bee1` is one."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def kind_of(path: PurePath, folder: str = "") -> Kind:
    """The class of the cut-out at `path`, relative to the folder that was given, whose own name is `folder`.

    The innermost folder that is called like a class (`people`, `vehicles`, `things`, ...) or like something of one
    (`cars`) decides, then `folder` where it is called like a class. Else the last known word of the file's name does,
    as in `police_car` and `PolarBear2`, else one in the names of the folders. What is not known is a thing.
    """
    folders = path.parts[-2::-1]
    for name in folders:
        kind = _known(name.lower(), _CLASSES) or _known(name.lower(), _WORDS)
        if kind:
            return kind
    if kind := _known(folder.lower(), _CLASSES):
        return kind
    for name in (path.stem, *folders):
        kinds = [kind for word in _words(name) if (kind := _known(word, _WORDS))]
        if kinds:
            return kinds[-1]
    return "thing"


def _words(name: str) -> list[str]:
    """Words in lower case: of `PoliceCar_02-b`, police, car and b."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", name) if not _CODE.fullmatch(part)]
    return [word.lower() for part in parts for word in _WORD.findall(part)]


def _known(word: str, table: dict[str, Kind]) -> Kind | None:
    """The class of a word in the singular or the plural."""
    word = _IRREGULAR.get(word, word)
    forms = [word]
    if word.endswith("s"):
        forms += [word[:-1], word.removesuffix("es"), word.removesuffix("ies") + "y"]
    return next((table[form] for form in forms if form in table), None)
