"""Training loops, scripts and studies of others: what their code calls, or is read by, to run here.

checkpointed    a plain loop: holds its model, optimizer, loader, ..., and brings them back
ray_tune, optuna    scripts as they stand: from_ray, from_optuna
lightning, huggingface    callbacks that report and save; each needs its library, which nothing else here does

What goes on from another trial's checkpoint keeps its own config (`carried`). Nothing in the house imports this room.
"""
