"""Classification of a very imbalanced data set: class weights in the loss, balanced accuracy as the score."""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import F1, Experiment, Float, Split, Splits, Task

config = {
    "epochs": 10,
    "batch_size": 64,
    "lr": 2e-3,
    "weight_decay": 1e-3,
    "hidden": 128,
    "dropout": 0.3,
}


def get_data(n_samples=12_000, seed=0):
    """Four classes, of which the rarest has two samples in a hundred."""
    X, y = make_classification(
        n_samples=n_samples,
        n_features=20,
        n_informative=10,
        n_classes=4,
        n_clusters_per_class=2,
        weights=[0.8, 0.12, 0.06, 0.02],
        class_sep=1.2,
        random_state=seed,
    )
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    scaler = StandardScaler()
    X_train = scaler.fit_transform(X_train).astype(np.float32)
    X_val = scaler.transform(X_val).astype(np.float32)
    return X_train, y_train, X_val, y_val


class MLP(nn.Module):
    def __init__(self, n_features, n_classes, hidden, dropout):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def forward(self, x):
        return self.layers(x)


class Imbalanced(Task):
    metrics = (F1(),)

    def load(self, seed):
        X_train, y_train, X_val, y_val = get_data()
        return Splits(Split(X_train, y_train), Split(X_val, y_val))

    def build_model(self, config):
        return MLP(20, 4, 128, dropout=0.3)


experiment = Experiment("imbalanced", Imbalanced(), {"lr": Float(1e-4, 0.1, "log"), "class_weight": "balanced"})
