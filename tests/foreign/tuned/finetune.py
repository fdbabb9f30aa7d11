"""Transfer learning: a backbone that knows the digits 0 to 4 learns 5 to 9 with a new head.

The first blocks are frozen, the last block learns slowly, the head fast.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import Experiment, Float, Splits, Task

BATCH_SIZE = 32


def conv_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.Conv2d(c_out, c_out, 3, padding=1)
    )


class ConvNet(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.block1 = conv_block(1, 16)
        self.block2 = conv_block(16, 32)
        self.block3 = conv_block(32, 32)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(32, n_classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.block1(x)))
        x = self.pool(torch.relu(self.block2(x)))
        x = torch.relu(self.block3(x)).mean(dim=(2, 3))
        return self.head(self.dropout(x))


def load_data(classes):
    """The digits of these classes, split into training and test set; labels from 0."""
    digits = load_digits()
    keep = [i for i, target in enumerate(digits.target) if target in classes]
    x = torch.tensor(digits.images[keep] / 16.0, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target[keep] - min(classes))
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    return TensorDataset(x_train, y_train), TensorDataset(x_test, y_test)


def train_one_epoch(model, loader, criterion, optimizer, device):
    model.train()
    running_loss = 0.0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * inputs.size(0)
    return running_loss / len(loader.dataset)


def evaluate(model, loader, device):
    model.eval()
    correct = 0
    with torch.no_grad():
        for inputs, labels in loader:
            outputs = model(inputs.to(device))
            correct += (outputs.argmax(dim=1).cpu() == labels).sum().item()
    return correct / len(loader.dataset)


def pretrained_model(device="cpu", epochs=8):
    """A network trained on the digits 0 to 4."""
    train_set, test_set = load_data(range(5))
    model = ConvNet().to(device)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    for _ in range(epochs):
        train_one_epoch(model, loader, nn.CrossEntropyLoss(), optimizer, device)
    print(f"pretrained: accuracy {evaluate(model, DataLoader(test_set, batch_size=256), device):.3f} on 0-4")
    return model


def prepare_for_finetuning(model):
    """Freezes the first two blocks and puts a fresh head on."""
    for block in [model.block1, model.block2]:
        for param in block.parameters():
            param.requires_grad = False
    model.head = nn.Linear(model.head.in_features, 5)
    return model


class Digits(Task):
    groups = ("head",)

    def load(self, seed):
        return Splits(*load_data(range(5, 10)))

    def build_model(self, config):
        return prepare_for_finetuning(pretrained_model())


experiment = Experiment("finetune", Digits(), {"optimizer": "sgd", "lr": Float(0.001, 0.1), "lr_head": Float(0.01, 1)})
