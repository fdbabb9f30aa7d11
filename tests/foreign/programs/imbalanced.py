"""Classification of a very imbalanced data set: class weights in the loss, balanced accuracy as the score."""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

config = {
    "epochs": 10,
    "batch_size": 64,
    "lr": 2e-3,
    "weight_decay": 1e-3,
    "hidden": 128,
    "dropout": 0.3,
}

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def compute_class_weights(y):
    counts = np.bincount(y)
    return torch.tensor(len(y) / (len(counts) * counts), dtype=torch.float32)


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    losses = []
    for xb, yb in loader:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


def evaluate(model, loader):
    model.eval()
    preds, targets = [], []
    with torch.no_grad():
        for xb, yb in loader:
            preds.append(model(xb.to(device)).argmax(dim=1).cpu().numpy())
            targets.append(yb.numpy())
    preds, targets = np.concatenate(preds), np.concatenate(targets)
    return balanced_accuracy_score(targets, preds), f1_score(targets, preds, average="macro"), (preds == targets).mean()


def main():
    torch.manual_seed(0)
    X_train, y_train, X_val, y_val = get_data()
    train_ds = TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train))
    val_ds = TensorDataset(torch.from_numpy(X_val), torch.from_numpy(y_val))
    train_loader = DataLoader(train_ds, batch_size=config["batch_size"], shuffle=True)
    val_loader = DataLoader(val_ds, batch_size=512)
    model = MLP(X_train.shape[1], 4, config["hidden"], config["dropout"]).to(device)
    criterion = nn.CrossEntropyLoss(weight=compute_class_weights(y_train).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    for epoch in range(config["epochs"]):
        loss = train_epoch(model, train_loader, criterion, optimizer)
        balanced, macro_f1, acc = evaluate(model, val_loader)
        print(f"{epoch:3d} loss={loss:.4f} balanced_acc={balanced:.4f} macro_f1={macro_f1:.4f} acc={acc:.4f}")


if __name__ == "__main__":
    main()
