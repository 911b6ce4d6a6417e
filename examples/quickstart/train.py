"""Train a small neural network on handwritten digits and log it to W&B. Knows nothing of how it is started.

By hand:  python train.py --hidden=32 --lr=0.03 --epochs=8
"""

import argparse

import numpy as np
import wandb
from sklearn.datasets import load_digits


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    with wandb.init(config=vars(options)) as run:
        train(run, options.hidden, options.lr, options.epochs)


def train(run, hidden, lr, epochs):
    rng = np.random.default_rng(0)
    digits = load_digits()  # 1,797 images of 8 x 8 pixels, part of scikit-learn
    order = rng.permutation(len(digits.target))
    images, labels = digits.data[order] / 16.0, digits.target[order]
    train_x, train_y, val_x, val_y = images[:1400], labels[:1400], images[1400:], labels[1400:]

    w1, b1 = rng.normal(0, 0.1, (64, hidden)), np.zeros(hidden)
    w2, b2 = rng.normal(0, 0.1, (hidden, 10)), np.zeros(10)

    for epoch in range(epochs):
        losses = []
        for start in range(0, len(train_x), 20):
            x, y = train_x[start : start + 20], train_y[start : start + 20]
            h = np.maximum(x @ w1 + b1, 0)
            p = softmax(h @ w2 + b2)
            losses.append(-np.log(p[np.arange(len(y)), y] + 1e-9).mean())
            # Gradient descent on the cross entropy.
            d2 = (p - np.eye(10)[y]) / len(y)
            d1 = (d2 @ w2.T) * (h > 0)
            w2, b2 = w2 - lr * h.T @ d2, b2 - lr * d2.sum(0)
            w1, b1 = w1 - lr * x.T @ d1, b1 - lr * d1.sum(0)
        predicted = (np.maximum(val_x @ w1 + b1, 0) @ w2 + b2).argmax(1)
        accuracy = float((predicted == val_y).mean())
        run.log({"epoch": epoch, "loss": float(np.mean(losses)), "val_accuracy": accuracy})
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, validation accuracy {accuracy:.3f}")


def softmax(scores):
    exponents = np.exp(scores - scores.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


if __name__ == "__main__":
    main()
