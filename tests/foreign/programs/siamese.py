"""A siamese network: are these two images the same digit? Contrastive loss (Hadsell, Chopra, LeCun 2006)."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

BATCH_SIZE = 64
EPOCHS = 10
LR = 1e-3
MARGIN = 1.0


class PairDataset(Dataset):
    """Every image with a partner: half of them of the same class. Training draws new partners in every epoch."""

    def __init__(self, images, labels, train):
        self.images = images
        self.labels = labels
        self.same = [torch.nonzero(labels == label).flatten() for label in range(10)]
        self.other = [torch.nonzero(labels != label).flatten() for label in range(10)]
        self.train = train
        generator = torch.Generator().manual_seed(0)
        self.partners = [self.draw(i, generator) for i in range(len(labels))]

    def draw(self, i, generator=None):
        same = int(torch.randint(2, (), generator=generator))
        candidates = (self.same if same else self.other)[int(self.labels[i])]
        return candidates[torch.randint(len(candidates), (), generator=generator)], same

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        j, same = self.draw(i) if self.train else self.partners[i]
        return self.images[i], self.images[j], torch.tensor(same, dtype=torch.float32)


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, random_state=0, stratify=labels)
    return PairDataset(images[train], labels[train], train=True), PairDataset(images[test], labels[test], train=False)


class SiameseNet(nn.Module):
    def __init__(self, embedding=16, dropout=0.1):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, embedding))

    def forward_once(self, x):
        return self.fc(self.conv(x))

    def forward(self, a, b):
        return self.forward_once(a), self.forward_once(b)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=MARGIN):
        super().__init__()
        self.margin = margin

    def forward(self, za, zb, same):
        distance = F.pairwise_distance(za, zb)
        near = same * distance.pow(2)
        far = (1 - same) * F.relu(self.margin - distance).pow(2)
        return 0.5 * (near + far).mean()


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    loss, correct, n = 0.0, 0, 0
    for a, b, same in loader:
        a, b, same = a.to(device), b.to(device), same.to(device)
        za, zb = model(a, b)
        loss += criterion(za, zb, same).item() * len(same)
        predicted = F.pairwise_distance(za, zb) < criterion.margin / 2
        correct += (predicted == same.bool()).sum().item()
        n += len(same)
    return loss / n, correct / n


def main():
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train_set, test_set = load_data()
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=256)
    model = SiameseNet().to(device)
    criterion = ContrastiveLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for epoch in range(EPOCHS):
        model.train()
        running_loss = 0.0
        for a, b, same in train_loader:
            a, b, same = a.to(device), b.to(device), same.to(device)
            optimizer.zero_grad()
            za, zb = model(a, b)
            loss = criterion(za, zb, same)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(same)
        test_loss, accuracy = evaluate(model, test_loader, criterion, device)
        print(f"[{epoch + 1}] loss {running_loss / len(train_set):.4f} test {test_loss:.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
