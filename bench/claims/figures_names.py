"""Where the plots of the page are, without what draws them."""

PLOTS = "../bench/results/claims"


def slug(text):
    return text.lower().replace(",", "").replace(" ", "_")
