"""Two word lists for the reward."""

from __future__ import annotations

# The colours and their order are WebShop's (github.com/princeton-nlp/WebShop, MIT): its reward depends on both.
COLOURS = tuple(
    """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal
    dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo
    ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor
    mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand
    sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut
    wheat white wine yellow
    """.split()  # noqa: SIM905 - easier to read than a list
)
"""Basic colours: an option that contains any counts as the first of them."""

NO_NOUNS = frozenset(
    """
    a about after all an and any are as at based be but by can comfortable designed each etc ever for from full fully
    get has have if in included includes into is it its large led made make more most my new no not of off on one only
    or original our out over own per she so some than that the their them then there these they this three through to
    two under up used very was well when while who with without you your
    b c d e f g h i j k l m n o p q r s t u v w x y z
    ft ml pcs th xl
    """.split()  # noqa: SIM905 - easier to read than a list
)
"""Words in titles that are not nouns: function words, common modifiers, letters and units."""

__all__ = ["COLOURS", "NO_NOUNS"]
