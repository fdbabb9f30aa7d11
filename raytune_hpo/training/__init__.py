"""Training: plain PyTorch trainers, usable without Ray. task: data and model; trainer, folded, hypergradient: what
trains them; rules: optimizers; counters, counted_draws: random numbers that a trial draws the same alone and in a
lane; metrics, losses, scores, evaluation: what is measured; lanes: many trials as one stacked model.

What this folder may not do: import ray.
"""
