"""A package of somebody else's: it imports raytune_hpo's public names, and nothing below them."""
