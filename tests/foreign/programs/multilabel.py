"""Which digits are in the picture? Multi-label classification with BCEWithLogitsLoss and macro F1."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 12
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
THRESHOLD = 0.5


def make_scenes(n, rng, digits, targets):
    """Scenes [n, 1, 16, 16] of one to four digits, and which of the ten are there [n, 10]."""
    scenes = np.zeros((n, 1, 16, 16), dtype=np.float32)
    labels = np.zeros((n, 10), dtype=np.float32)
    corners = [(0, 0), (0, 8), (8, 0), (8, 8)]
    for i in range(n):
        for corner in rng.permutation(4)[: rng.integers(1, 5)]:
            j = rng.integers(len(digits))
            r, c = corners[corner]
            scenes[i, 0, r : r + 8, c : c + 8] = digits[j]
            labels[i, targets[j]] = 1
    scenes += rng.normal(0, 0.05, scenes.shape).astype(np.float32)
    return torch.from_numpy(scenes), torch.from_numpy(labels)


def load_data(n_train=3000, n_test=750, seed=0):
    rng = np.random.default_rng(seed)
    digits, targets = load_digits(return_X_y=True)
    digits = (digits / 16).reshape(-1, 8, 8).astype(np.float32)
    train = make_scenes(n_train, rng, digits[:1300], targets[:1300])
    test = make_scenes(n_test, rng, digits[1300:], targets[1300:])
    return train, test


class Net(nn.Module):
    def __init__(self, channels=16, dropout=0.2):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def train(model, loader, criterion, optimizer, device):
    model.train()
    total_loss = 0.0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * inputs.size(0)
    return total_loss / len(loader.dataset)


def evaluate(model, loader, criterion, device):
    model.eval()
    total_loss = 0.0
    predictions, truth = [], []
    with torch.no_grad():
        for inputs, labels in loader:
            outputs = model(inputs.to(device)).cpu()
            total_loss += criterion(outputs, labels).item() * inputs.size(0)
            predictions.append((torch.sigmoid(outputs) > THRESHOLD).int())
            truth.append(labels.int())
    f1 = f1_score(torch.cat(truth).numpy(), torch.cat(predictions).numpy(), average="macro", zero_division=0)
    return total_loss / len(loader.dataset), f1


def main():
    torch.manual_seed(42)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_data, test_data = load_data()
    train_loader = DataLoader(TensorDataset(*train_data), batch_size=BATCH_SIZE, shuffle=True)
    test_loader = DataLoader(TensorDataset(*test_data), batch_size=250)
    model = Net().to(device)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(1, EPOCHS + 1):
        train_loss = train(model, train_loader, criterion, optimizer, device)
        test_loss, f1 = evaluate(model, test_loader, criterion, device)
        print(f"Epoch {epoch}/{EPOCHS} - loss: {train_loss:.4f} - val_loss: {test_loss:.4f} - val_f1: {f1:.4f}")


if __name__ == "__main__":
    main()
