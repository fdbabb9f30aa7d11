import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data():
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * x[:, 1:2] + 0.1 * x[:, 2:3]
    return TensorDataset(x[:400], y[:400]), (x[400:], y[400:])


def train(config):
    rows, (x, y) = data()
    loader = DataLoader(rows, config["batch_size"], shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    for epoch in range(9):
        for a, b in loader:
            loss = nn.functional.mse_loss(model(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.mse_loss(model(x), y).item()
        model.train()
        print(epoch, loss)


train({"lr": 0.01, "batch_size": 32})
