"""Lanes: many trials of like structure as one stacked model. Usable without Ray.

    config, seed -> Lane --structure--> Stack (one a structure) -> an epoch of all its lanes -> metrics of each
                         --chain------> MixedStack (of all shapes) -> ticks -> metrics of those that end an epoch

- `mixed/`: chains of any depth, width and batch size as one program (docs/mixed_lanes.md)
- `fingerprint`, `recording`: what a model's forward reads, which is what lanes of a stack agree in
- `structure`: which models may be fused, and the program that runs them fused
- `layers`: a layer of many lanes at once; axis 0 is the lane everywhere
- `optimizers`, `losses`: torch's formulas, with every hyperparameter a number a lane
- `mapped`, `recurrent`: modules of any kind under vmap; `program`: a task's own loss and predictions, too
- `rows`: where a model's tensors lie in what a stack holds
- `lane`: what a trial has besides its weights: config, schedule, generators, epoch
- `stack`: the weights of the lanes of one structure, and their epoch
- `fused_trainer`: lanes by name; they enter, leave and are copied between two epochs

A lane trains as `SupervisedTrainer` trains the same config and seed, whatever its neighbours do
(tests/training/lanes). Fusing models of one shape: Wang et al. 2021 (HFTA, MLSys). Batching the operations of
differently shaped graphs: Looks et al. 2017 (TensorFlow Fold), Neubig et al. 2017 (DyNet, NeurIPS).
"""
