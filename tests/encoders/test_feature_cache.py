"""FeatureCache and embed: the same vectors as without, whatever happens to the file."""

import copy
import multiprocessing
import sqlite3
import subprocess
import sys
import time
import warnings

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.encoders.embedding import embed, embed_stored
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.inputs import FeatureInputs, ImageInputs, UnreadableError

from ..builders import CountingBatches


def rows(count, size=3, first=0):
    return torch.arange(first, first + count)[:, None] + torch.arange(size) / 10


def same(found, expected):
    return all(a is not None and torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# -- the cache ---------------------------------------------------------------------------------


def test_vectors_come_back_to_the_bit(tmp_path):
    stored, vectors = rows(700), torch.randn(700, 5)
    FeatureCache("a", tmp_path).put(stored, vectors)
    again = FeatureCache("a", tmp_path)
    assert same(again.get(stored.flip(0)), vectors.flip(0))
    assert again.get(rows(1, first=700)) == [None]
    assert again.get([]) == []


def test_encoder_type_and_shape_are_part_of_the_key(tmp_path):
    cache = FeatureCache("a", tmp_path)
    zeros = torch.zeros(4, dtype=torch.uint8)
    cache.put([zeros], torch.ones(1, 2))
    assert FeatureCache("b", tmp_path).get([zeros]) == [None]
    others = [zeros.view(2, 2), zeros.view(torch.int16), torch.zeros(5, dtype=torch.uint8)]
    assert cache.get(others) == [None] * 3
    turned = torch.arange(6).view(2, 3).t()  # another layout in memory, the same content
    cache.put([turned], torch.ones(1, 2))
    assert cache.get([turned.contiguous()])[0] is not None


def test_the_usual_place_is_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path))
    cache = FeatureCache("a")
    cache.put(rows(1), torch.ones(1, 2))
    assert cache.path.is_file()
    assert cache.path.parent == tmp_path / "features"
    assert [path.name for path in cache.folder.iterdir()] == [cache.path.name]


def test_the_oldest_make_room(tmp_path):
    most = 400_000
    cache = FeatureCache("a", tmp_path, most_bytes=most)
    for number in range(40):
        cache.put(rows(10, first=10 * number), torch.full((10, 1000), float(number)))
        assert cache.path.stat().st_size <= most + 60_000  # one batch and its share of the tree
    kept = [vector is not None for vector in cache.get(rows(400))]
    assert 50 < sum(kept) < 100
    assert not any(kept[:300])
    assert all(kept[-50:])


def test_a_cache_of_no_bytes_keeps_nothing(tmp_path):
    cache = FeatureCache("a", tmp_path / "none", most_bytes=0)
    cache.put(rows(1), torch.ones(1, 2))
    assert cache.get(rows(1)) == [None]
    assert not cache.folder.exists()
    with pytest.raises(ValueError, match="most_bytes is -1"):
        FeatureCache("a", tmp_path, most_bytes=-1)


@pytest.mark.parametrize("damage", ["garbage", "header", "middle"])
def test_a_damaged_file_is_noticed_and_made_anew(tmp_path, damage):
    cache = FeatureCache("a", tmp_path)
    cache.put(rows(200), torch.ones(200, 300))
    content = bytearray(cache.path.read_bytes())
    if damage == "garbage":
        content = bytearray(b"no database " * 1000)
    else:
        start = 0 if damage == "header" else 4096
        content[start : start + 20_000] = b"\xff" * 20_000
    cache.path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.get(rows(200)) == [None] * 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(rows(200), torch.full((200, 300), 2.0))
        assert same(cache.get(rows(200)), torch.full((200, 300), 2.0))


def test_a_vector_whose_bytes_changed_is_forgotten(tmp_path):
    cache = FeatureCache("a", tmp_path)
    cache.put(rows(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE features SET vector = zeroblob(8) WHERE rowid = 1")
    connection.close()
    found = cache.get(rows(2))
    assert found[0] is None
    assert found[1].tolist() == [3.0, 4.0]
    cache.put(rows(1), torch.tensor([[1.0, 2.0]]))  # computed again, it takes the old one's place
    assert same(cache.get(rows(1)), torch.tensor([[1.0, 2.0]]))


def test_a_writer_that_died_leaves_nothing_half_written(tmp_path):
    cache = FeatureCache("a", tmp_path)
    cache.put(rows(2), torch.ones(2, 4))
    subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, cache.path], check=True)
    assert cache.path.with_name(f"{cache.path.name}-journal").exists()  # it was in the middle
    assert same(cache.get(rows(2)), torch.ones(2, 4))
    cache.put(rows(1, first=9), torch.ones(1, 4))
    assert cache.get(rows(1, first=9))[0] is not None


DIE_WHILE_WRITING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the end
connection.execute("BEGIN")
connection.execute("UPDATE features SET vector = zeroblob(100000)")
os._exit(0)
"""


def test_two_processes_at_once(tmp_path):
    other = multiprocessing.get_context("spawn").Process(target=put_many, args=(tmp_path, 200))
    other.start()
    while not (tmp_path / FeatureCache("a", tmp_path).path.name).exists():
        assert other.is_alive() or other.exitcode == 0
        time.sleep(0.01)
    put_many(tmp_path, 0)
    other.join()
    assert other.exitcode == 0
    assert same(FeatureCache("a", tmp_path).get(rows(400)), torch.arange(400.0)[:, None])


def put_many(folder, first):
    cache = FeatureCache("a", folder)
    for start in range(first, first + 200, 10):
        stored = rows(10, first=start)
        cache.put(stored, torch.arange(float(start), start + 10)[:, None])
        assert all(vector is not None for vector in cache.get(stored))
    assert cache.usable


def test_a_folder_that_cannot_be_made_costs_the_caching_only(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache, encoder = FeatureCache("a", tmp_path / "file"), CountingBatches(3, 4)
    with pytest.warns(UserWarning, match="cannot be kept") as warned:  # when looking
        features = embed_stored(encoder, FeatureInputs(3), rows(5), cache)
    assert len(warned) == 1  # and not once more when keeping
    assert torch.equal(features, encoder.linear(rows(5)).detach())


def test_a_full_disk_costs_the_caching_only(tmp_path, monkeypatch):
    from quickstudy.encoders import feature_cache

    cache = FeatureCache("a", tmp_path)
    cache.put(rows(1), torch.ones(1, 4))
    table = feature_cache._TABLE
    monkeypatch.setattr(feature_cache, "_TABLE", "PRAGMA max_page_count = 5")
    with pytest.warns(UserWarning, match=r"cannot be kept.*full"):
        cache.put(rows(50, first=1), torch.ones(50, 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(rows(50, first=1), torch.ones(50, 1000))
    monkeypatch.setattr(feature_cache, "_TABLE", table)
    found = FeatureCache("a", tmp_path).get(rows(51))
    assert found[0].tolist() == [1.0] * 4
    assert found[1:] == [None] * 50


def test_a_file_that_cannot_be_written_is_still_read(tmp_path, monkeypatch):
    from quickstudy.encoders import feature_cache

    cache = FeatureCache("a", tmp_path)
    cache.put(rows(1), torch.ones(1, 4))
    connect = sqlite3.connect
    monkeypatch.setattr(
        feature_cache.sqlite3,
        "connect",
        lambda path, **options: connect(f"file:{path}?mode=ro", uri=True, **options),
    )
    assert same(cache.get(rows(1)), torch.ones(1, 4))
    with pytest.warns(UserWarning, match="cannot be kept"):
        cache.put(rows(1, first=1), torch.ones(1, 4))


# -- identity ----------------------------------------------------------------------------------


def test_a_copy_has_the_same_identity_and_a_change_another():
    encoder = Conv4((1, 28, 28))
    identity = encoder_identity(encoder)
    assert encoder_identity(encoder) == identity
    twin = copy.deepcopy(encoder)
    assert encoder_identity(twin) == identity
    with torch.no_grad():
        next(twin.parameters()).view(-1)[0] += 1e-3
    assert encoder_identity(twin) != identity
    twin.load_state_dict(encoder.state_dict())
    assert encoder_identity(twin) == identity
    twin.to(memory_format=torch.channels_last)  # another layout of the same values
    assert encoder_identity(twin) == identity
    next(b for b in twin.buffers() if b.is_floating_point()).add_(1)  # a running average
    assert encoder_identity(twin) != identity
    assert encoder_identity(copy.deepcopy(encoder).double()) != identity


def test_structure_arguments_and_inputs_are_part_of_the_identity():
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    encoders = [
        linear,
        nn.Sequential(linear, nn.ReLU()),
        nn.Sequential(linear, nn.LeakyReLU(0.1)),
        nn.Sequential(linear, nn.LeakyReLU(0.2)),
    ]
    mlp = MLP((4,), (4,))
    mlp.layers[0].load_state_dict(linear.state_dict())
    identities = {encoder_identity(encoder) for encoder in [*encoders, mlp]}
    assert len(identities) == 5
    prepared = {encoder_identity(linear, ImageInputs(2, 1, mean=(m,))) for m in (0.1, 0.2)}
    assert len(prepared | identities) == 7


def test_the_weights_are_read_once(monkeypatch):
    from quickstudy.encoders import feature_cache

    read = []
    feed = feature_cache.feed
    monkeypatch.setattr(feature_cache, "feed", lambda d, t: (read.append(t.numel()), feed(d, t)))
    encoder = nn.Linear(10, 10)
    for _ in range(3):
        encoder_identity(encoder)
    assert sum(read) == 110
    with torch.no_grad():
        encoder.bias.zero_()
    encoder_identity(encoder)
    assert sum(read) == 220


# -- embedding ---------------------------------------------------------------------------------


def test_features_are_in_order_and_computed_once(tmp_path):
    encoder, inputs = CountingBatches(3, 4), FeatureInputs(3)
    cache = FeatureCache(encoder_identity(encoder, inputs), tmp_path)
    raws = [row.tolist() for row in rows(600)]
    repeated = [*raws, *raws[:10]]
    told = []
    features = embed(encoder, inputs, repeated, cache, 64, lambda *counts: told.append(counts))
    expected = encoder.linear(rows(600)).detach()
    torch.testing.assert_close(features, torch.cat([expected, expected[:10]]))
    assert sum(encoder.batches) == 600  # equal things once
    assert max(encoder.batches) == 64
    assert told[-1] == (610, 610)
    assert told == sorted(told)
    encoder.batches.clear()
    assert torch.equal(embed(encoder, inputs, raws, cache), features[:600])
    assert encoder.batches == []
    more = [*raws[:3], [7.0, 7.0, 7.0]]
    embed(encoder, inputs, more, cache)
    assert encoder.batches == [1]


def test_texts_of_about_one_length_go_together():
    lengths = []

    class Reading(nn.Module):
        def forward(self, x):
            lengths.append((x > 0).sum(1).tolist())
            return (x > 0).sum(1, keepdim=True).float()

    class Words(FeatureInputs):
        modality = "text"

    stored = torch.zeros(9, 9)
    for row, length in enumerate((9, 1, 8, 2, 7, 3, 6, 4, 5)):
        stored[row, :length] = row + 1
    features = embed_stored(Reading(), Words(9), stored, batch_size=3)
    assert features[:, 0].tolist() == [9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert lengths == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_the_encoder_is_used_as_after_training_and_left_as_it_was(tmp_path):
    encoder = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9))
    features = embed(encoder, FeatureInputs(3), rows(4))
    assert torch.equal(features, encoder[0](rows(4)).detach())
    assert encoder.training
    assert not features.requires_grad


def test_nothing_and_unreadable_things_are_refused():
    with pytest.raises(ValueError, match="nothing to embed"):
        embed(nn.Flatten(), FeatureInputs(3), [])
    with pytest.raises(UnreadableError, match="given as bytes"):
        embed(nn.Flatten(), ImageInputs(4, 1), [b"no image"])
