"""Easy tasks: two classes that are always the same, and only their labels change."""

import torch

from quickstudy.episodes import Episode, Examples


def episode_of_two_classes(tasks=64, queries=4):
    """Classes around two fixed places in four dimensions, one shot, labels shuffled by task."""
    places = torch.tensor([[2.0, 0.0, -1.0, 0.0], [0.0, 2.0, 0.0, -1.0]])

    def examples(each):
        targets = torch.arange(2).repeat(each)
        labels = torch.randint(2, (tasks, 1))  # the label of the first class
        targets = targets.expand(tasks, -1)
        return places[targets] + 0.3 * torch.randn(tasks, 2 * each, 4), targets, labels

    support, classes, labels = examples(1)
    query, asked, _ = examples(queries)
    return Episode(Examples(support, classes ^ labels), Examples(query, asked ^ labels), 2)


def accuracy_after_training(strategy, steps, learning_rate=0.01):
    """The share of right answers on unseen tasks, of which half are right by chance."""
    optimizer = torch.optim.Adam(strategy.parameters(), learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        strategy.loss(episode_of_two_classes())[0].backward()
        optimizer.step()
    unseen = episode_of_two_classes(tasks=500)
    with torch.no_grad():
        right = strategy(unseen).argmax(-1) == unseen.query.targets
    return right.float().mean().item()
