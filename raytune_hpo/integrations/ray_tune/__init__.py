"""A Ray Tune script as an experiment: `raytune_hpo.run(raytune_hpo.from_ray(tuner))` in the place of `tuner.fit()`.

    tuner    the parts of a Tuner, or what one would have been given, as an Experiment
    spaces   search-space dictionaries        search    searchers and schedulers
    task     the trainable, with what the script has Ray do round it: computed parameters, stop conditions

Ray is not imported: its objects are known by module and class, and read by their attributes. A test holds each reading
against Ray's own classes, and docs/coming_from_ray_tune.md has the table for people.
"""

from raytune_hpo.integrations.ray_tune.tuner import from_ray

__all__ = ["from_ray"]
